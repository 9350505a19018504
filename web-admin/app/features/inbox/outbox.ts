/**
 * Replies on their way to the server, one after the other for each conversation. A reply whose fate
 * is unknown is sent again under its key, so that it takes effect once; a refused one waits for its
 * author. Kept while the page is open, also when another conversation is shown, and over a reload.
 */

import { shallowReactive } from 'vue'
import { ApiError } from '../../api/problem'
import type { Message } from '../../api/types'
import type { Attachment } from './attachment'
import type { Unsent } from './unsent'

export interface Reply {
  readonly key: string
  readonly text: string
  readonly attachments: readonly Attachment[]
  readonly at: string
  /** The last message that its author had before their eyes; null to send it whoever wrote meanwhile. */
  readonly seen: number | null
  /**
   * `unknown`: nobody answered; it may have arrived. `held`: the page was reloaded since, its author
   * says whether it goes out. `stranded`: so long ago that it could arrive twice.
   */
  readonly state: 'queued' | 'sending' | 'unknown' | 'refused' | 'held' | 'stranded'
  readonly error: ApiError | null
}

export type Send = (reply: Reply) => Promise<Message>

export interface OutboxOptions {
  send: Send
  accepted: (message: Message) => void
  unsent: Unsent
  newKey: () => string
  now: () => string
}

export class Outbox {
  readonly replies = shallowReactive<Reply[]>([])
  #isSending = false

  constructor(private readonly options: OutboxOptions) {
    this.replies.push(...options.unsent.read())
  }

  add(text: string, attachments: readonly Attachment[], seen: number | null): Promise<void> {
    const { newKey, now, unsent } = this.options
    const reply: Reply = { key: newKey(), text, attachments, at: now(), seen, state: 'queued', error: null }
    unsent.keep(reply)
    this.replies.push(reply)
    return this.flush()
  }

  /** One from before a reload, under the key that it had. */
  release(key: string): Promise<void> {
    const reply = this.replies.find((one) => one.key === key && one.state === 'held')
    if (reply) this.#put({ ...reply, state: 'queued' })
    return this.flush()
  }

  /** Its author does not want it any more, or another tab has seen it arrive. */
  discard(key: string): void {
    const index = this.replies.findIndex((reply) => reply.key === key && reply.state !== 'sending')
    if (index >= 0) this.#remove(index)
  }

  /** One that was refused because a colleague wrote meanwhile: it is another request now. */
  sendAnyway(key: string): Promise<void> {
    const index = this.replies.findIndex((reply) => reply.key === key && isStale(reply))
    const reply = this.replies[index]
    if (!reply) return this.flush()
    const anew: Reply = { ...reply, key: this.options.newKey(), seen: null, state: 'queued', error: null }
    this.options.unsent.drop(key)
    this.options.unsent.keep(anew)
    this.replies[index] = anew
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

  /** Takes a reply that does not go out by itself out again, for its author to change. */
  takeBack(key: string): Reply | undefined {
    const index = this.replies.findIndex((reply) => reply.key === key && isUpToAuthor(reply))
    return index < 0 ? undefined : this.#remove(index)
  }

  /** Whether the next one may be tried. */
  async #try(reply: Reply): Promise<boolean> {
    this.#put({ ...reply, state: 'sending', error: null })
    try {
      const message = await this.options.send(reply)
      this.options.accepted(message)
      this.#remove(this.#indexOf(reply))
      return true
    } catch (error) {
      if (!(error instanceof ApiError)) throw error
      const failed: Reply = { ...reply, state: isFinal(error) ? 'refused' : 'unknown', error }
      if (isFinal(error)) this.options.unsent.keep(failed)
      this.#put(failed)
      return isFinal(error)
    }
  }

  #remove(index: number): Reply | undefined {
    const [reply] = this.replies.splice(index, 1)
    if (reply) this.options.unsent.drop(reply.key)
    return reply
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

/** Tried in vain, or waiting for its author. */
export function isStuck(reply: Reply): boolean {
  return reply.state === 'unknown' || isUpToAuthor(reply)
}

/** Nothing happens to it until its author says what. */
export function isUpToAuthor({ state }: Reply): boolean {
  return state === 'refused' || state === 'held' || state === 'stranded'
}

/** Too many requests, or a sign-in that ended, say nothing about the reply. */
function isFinal(error: ApiError): boolean {
  return error.isRefusal && error.status !== 429 && error.status !== 401
}
