/** All contacts of the tenant, and which of them somebody wants to see. */

import { api } from '../../api/api'
import type { Schemas } from '../../api/paths'
import type { Page } from '../../api/types'

export type Entry = Schemas['ContactEntryOut']

export interface Wanted {
  readonly text: string
  readonly tagId: string
  readonly channelId: string
  readonly standing: '' | 'blocked' | 'heard'
}

export const ALL: Wanted = { text: '', tagId: '', channelId: '', standing: '' }

/** Pages in which the server found nobody that fits; then a person says go on. */
const MAX_EMPTY_PAGES = 5

export async function listContacts(wanted: Wanted, cursor: string | null, signal: AbortSignal): Promise<Page<Entry>> {
  let next = cursor
  for (let page = 1; ; page += 1) {
    const query = {
      text: wanted.text.trim() || null,
      tag_id: wanted.tagId || null,
      channel_id: wanted.channelId || null,
      blocked: wanted.standing === '' ? null : wanted.standing === 'blocked',
      cursor: next,
    }
    const found = await api.get('/contacts', { query, signal })
    next = found.next ?? null
    if (found.items.length > 0 || next === null || page === MAX_EMPTY_PAGES) return found
  }
}
