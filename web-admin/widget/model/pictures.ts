/** The bytes of pictures: up to the store, and back for those whose chat shows them. */

import type { InjectionKey } from 'vue'
import type { Refusal } from './conversation'
import { MAX_PICTURE_BYTES } from './protocol'

/** What a browser shows and the store takes for a picture. */
export const PICTURE_TYPES = ['image/png', 'image/jpeg', 'image/gif', 'image/webp']

/** Stored; not stored just now; or why it never will be. */
export type Stored = 'stored' | 'later' | Refusal

export interface Pictures {
  /** The bytes of a picture of this chat; null when it is gone; rejects when not to be had now. */
  load: (mediaId: string) => Promise<Blob | null>
  /** The bytes of a message on its way, where this page still has them. */
  preview: (outgoingId: string) => File | null
}

export const PICTURES: InjectionKey<Pictures> = Symbol('pictures')

/** Why a file cannot be sent, as a word of the page; null when it can. */
export function objection({ type, size }: File): 'notAPicture' | 'pictureTooLarge' | null {
  if (!PICTURE_TYPES.includes(type)) return 'notAPicture'
  return size === 0 || size > MAX_PICTURE_BYTES ? 'pictureTooLarge' : null
}

export async function storePicture(url: string, file: Blob): Promise<Stored> {
  try {
    const answer = await fetch(url, { method: 'PUT', body: file })
    if (answer.ok) return 'stored'
    if (answer.status >= 500 || answer.status === 429) return 'later'
    return refusalOf(await answer.json(), answer.status)
  } catch {
    return 'later'
  }
}

/** Rejects when the picture cannot be had just now. */
export async function loadPicture(
  token: string,
  visitor: string,
  mediaId: string,
): Promise<Blob | null> {
  const headers = { authorization: `Bearer ${visitor}` }
  const answer = await fetch(`/webchat/${token}/media/${mediaId}`, { headers })
  if (answer.status === 404) return null
  if (!answer.ok) throw new Error(`the picture was answered with ${answer.status}`)
  return answer.blob()
}

function refusalOf(problem: unknown, status: number): Refusal {
  const { code, detail } = (problem ?? {}) as Partial<Record<keyof Refusal, unknown>>
  return {
    code: typeof code === 'string' ? code : `http_${status}`,
    detail: typeof detail === 'string' ? detail : '',
  }
}
