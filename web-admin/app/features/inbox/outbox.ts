/**
 * Replies on their way to the server, one after the other for each conversation. A reply whose fate
 * is unknown is sent again under its key, so that it takes effect once; a refused one waits for its
 * author. Kept while the page is open, also when another conversation is shown.
 */

import { shallowReactive } from 'vue'
import { ApiError } from '../../api/problem'
import type { Message } from '../../api/types'
import type { Attachment } from './attachment'

export interface Reply {
  readonly key: string
  readonly text: string
  readonly attachments: readonly Attachment[]
  readonly at: string
  /** The last message that its author had before their eyes; null to send it whoever wrote meanwhile. */
  readonly seen: number | null
  /** `unknown`: nobody answered; it may have arrived. */
  readonly state: 'queued' | 'sending' | 'unknown' | 'refused'
  readonly error: ApiError | null
}

export type Send = (reply: Reply) => Promise<Message>

export interface OutboxOptions {
  send: Send
  accepted: (message: Message) => void
  newKey: () => string
  now: () => string
}

export class Outbox {
  readonly replies = shallowReactive<Reply[]>([])
  #isSending = false

  constructor(private readonly options: OutboxOptions) {}

  add(text: string, attachments: readonly Attachment[], seen: number | null): Promise<void> {
    const { newKey, now } = this.options
    this.replies.push({ key: newKey(), text, attachments, at: now(), seen, state: 'queued', error: null })
    return this.flush()
  }

  /** One that was refused because a colleague wrote meanwhile: it is another request now. */
  sendAnyway(key: string): Promise<void> {
    const index = this.replies.findIndex((reply) => reply.key === key && isStale(reply))
    const reply = this.replies[index]
    if (reply) this.replies[index] = { ...reply, key: this.options.newKey(), seen: null, state: 'queued', error: null }
    return this.flush()
  }

  /** Sends what waits; what was refused stays and holds up nothing. */
  async flush(): Promise<void> {
    if (this.#isSending) return
    this.#isSending = true
    try {
      for (;;) {
        const next = this.replies.find(({ state }) => state === 'queued' || state === 'unknown')
        if (!next || !(await this.#try(next))) return
      }
    } finally {
      this.#isSending = false
    }
  }

  /** Takes a reply that was refused out again, for its author to change. */
  takeBack(key: string): Reply | undefined {
    const index = this.replies.findIndex((reply) => reply.key === key && reply.state === 'refused')
    return index < 0 ? undefined : this.replies.splice(index, 1)[0]
  }

  /** Whether the next one may be tried. */
  async #try(reply: Reply): Promise<boolean> {
    this.#put({ ...reply, state: 'sending', error: null })
    try {
      const message = await this.options.send(reply)
      this.options.accepted(message)
      this.replies.splice(this.#indexOf(reply), 1)
      return true
    } catch (error) {
      if (!(error instanceof ApiError)) throw error
      this.#put({ ...reply, state: isFinal(error) ? 'refused' : 'unknown', error })
      return isFinal(error)
    }
  }

  #put(reply: Reply): void {
    this.replies[this.#indexOf(reply)] = reply
  }

  #indexOf({ key }: Reply): number {
    return this.replies.findIndex((reply) => reply.key === key)
  }
}

/** Refused because a colleague answered behind what its author had seen. */
export function isStale({ state, error }: Reply): boolean {
  return state === 'refused' && error?.code === 'stale_view'
}

/** Too many requests, or a sign-in that ended, say nothing about the reply. */
function isFinal(error: ApiError): boolean {
  return error.isRefusal && error.status !== 429 && error.status !== 401
}
