/**
 * One visitor's session: joins the pure conversation with its socket and its storage, and exposes
 * both to the components.
 */

import { ref, shallowRef } from 'vue'
import { Connection } from './connection'
import type { Link } from './connection'
import { isFull, reduce, unsent } from './conversation'
import type { ConversationEvent, Outgoing } from './conversation'
import type { ServerFrame } from './protocol'
import type { ConversationStorage } from './storage'

/** A message not confirmed by then means a dead socket or a lost answer: connect anew, resend. */
const CONFIRM_WITHIN_MS = 15_000

export interface SessionOptions {
  openSocket: () => WebSocket
  storage: ConversationStorage
  newId: () => string
  random: () => number
  now: () => number
}

export class Session {
  readonly conversation
  readonly link = ref<Link>('waiting')
  /** Whether the tenant rests: messages are kept, and answered when it is back. */
  readonly isPaused = ref(false)
  readonly #connection: Connection
  #awaited: string | undefined
  #confirmTimer: ReturnType<typeof setTimeout> | undefined
  #pauseTimer: ReturnType<typeof setTimeout> | undefined

  constructor(private readonly options: SessionOptions) {
    this.conversation = shallowRef(options.storage.load())
    this.#connection = new Connection({
      ...options,
      hello: () => {
        const { visitor, lastId } = this.conversation.value
        return { type: 'resume', visitor, last_id: lastId }
      },
      onFrame: (frame) => {
        this.#receive(frame)
      },
      onLink: (link) => {
        this.link.value = link
        this.#awaitOldest()
      },
    })
  }

  /** Starts, or tries at once instead of waiting any longer. */
  wake(): void {
    this.#connection.wake()
  }

  /** Connects anew: the network changed. */
  reconnect(): void {
    this.#connection.reconnect()
  }

  compose(text: string): void {
    if (isFull(this.conversation.value)) return
    const { newId, now } = this.options
    const at = new Date(now()).toISOString()
    const outgoing: Outgoing = { id: newId(), text, at, refusal: null }
    this.#apply({ type: 'composed', outgoing })
    this.#transmit(outgoing)
    this.#awaitOldest()
  }

  discard({ id }: Outgoing): void {
    this.#apply({ type: 'discarded', id })
  }

  retry(outgoing: Outgoing): void {
    this.discard(outgoing)
    this.compose(outgoing.text)
  }

  #receive(frame: ServerFrame): void {
    this.#apply({ type: 'frame', frame })
    if (frame.type === 'welcome') {
      this.isPaused.value = false
      this.#transmitAll()
    }
    if (frame.type === 'service') this.isPaused.value = frame.paused
    if (frame.type === 'error' && frame.code === 'rate_limited') this.#pause(frame.retryAfterS ?? 1)
    this.#awaitOldest()
  }

  #apply(event: ConversationEvent): void {
    const previous = this.conversation.value
    this.conversation.value = reduce(previous, event)
    this.options.storage.save(previous, this.conversation.value)
  }

  /** Written too fast: nothing more until the server takes it, then all of it in order. */
  #pause(seconds: number): void {
    if (this.#pauseTimer !== undefined) return
    this.#pauseTimer = setTimeout(() => {
      this.#transmitAll()
    }, seconds * 1000)
  }

  #transmitAll(): void {
    clearTimeout(this.#pauseTimer)
    this.#pauseTimer = undefined
    for (const outgoing of unsent(this.conversation.value)) this.#transmit(outgoing)
  }

  #transmit({ id, text }: Outgoing): void {
    if (this.#pauseTimer !== undefined) return
    this.#connection.send({ type: 'message', id, text })
  }

  /** Later messages must not extend the time that the oldest one has. */
  #awaitOldest(): void {
    const isLive = this.link.value === 'live'
    const oldest = isLive ? unsent(this.conversation.value)[0]?.id : undefined
    if (oldest === this.#awaited) return
    this.#awaited = oldest
    clearTimeout(this.#confirmTimer)
    if (oldest === undefined) return
    this.#confirmTimer = setTimeout(() => {
      this.reconnect()
    }, CONFIRM_WITHIN_MS)
  }
}
