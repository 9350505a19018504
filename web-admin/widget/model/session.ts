/**
 * One visitor's session: joins the pure conversation with its socket and its storage, and exposes
 * both to the components.
 */

import { ref, shallowRef } from 'vue'
import { Connection } from './connection'
import type { Link } from './connection'
import { isFull, ready, reduce, unsent } from './conversation'
import type { ConversationEvent, Outgoing } from './conversation'
import type { ServerFrame } from './protocol'
import type { Stored } from './pictures'
import { inStars } from './stars'
import type { ConversationStorage } from './storage'

/** A message not confirmed by then means a dead socket or a lost answer: connect anew, resend. */
const CONFIRM_WITHIN_MS = 15_000
/** Before a picture that could not be stored just now is tried again. */
const STORE_AGAIN_S = 3

export interface SessionOptions {
  openSocket: () => WebSocket
  storage: ConversationStorage
  /** Sends a picture's bytes to the address that the server gave. */
  store: (url: string, file: Blob) => Promise<Stored>
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
  /** Pictures of this page that are not confirmed, by their message's id. */
  readonly #files = new Map<string, File>()
  #uploading: string | undefined

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

  compose(text: string, file: File | null = null): void {
    if (isFull(this.conversation.value)) return
    const { newId, now } = this.options
    const at = new Date(now()).toISOString()
    const picture = file && { name: file.name, size: file.size, mediaId: null }
    const outgoing: Outgoing = { id: newId(), text, picture, at, refusal: null }
    if (file) this.#files.set(outgoing.id, file)
    this.#apply({ type: 'composed', outgoing })
    this.#transmit([outgoing])
    this.#awaitOldest()
  }

  /** Says how it was, as an ordinary message; too late there is nothing to say. */
  rate(score: number, words: string): void {
    const { question } = this.conversation.value
    if (!question) return
    if (Date.parse(question.until) > this.options.now()) this.compose(inStars(score, words))
    this.wave()
  }

  /** Does not say how it was. */
  wave(): void {
    this.#apply({ type: 'waved' })
  }

  discard({ id }: Outgoing): void {
    this.#files.delete(id)
    this.#apply({ type: 'discarded', id })
  }

  retry(outgoing: Outgoing): void {
    const file = this.#files.get(outgoing.id) ?? null
    this.discard(outgoing)
    this.compose(outgoing.text, file)
  }

  /** The bytes of a message on its way, for its preview. */
  fileOf(id: string): File | null {
    return this.#files.get(id) ?? null
  }

  #receive(frame: ServerFrame): void {
    this.#apply({ type: 'frame', frame })
    if (frame.type === 'welcome') {
      this.isPaused.value = false
      this.#transmitAll()
    }
    if (frame.type === 'upload') void this.#upload(frame)
    if (frame.type === 'ack') this.#files.delete(frame.id)
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
    this.#transmit(unsent(this.conversation.value))
  }

  /** Sends those of the messages that are ready, and asks where the next picture goes. */
  #transmit(wanted: readonly Outgoing[]): void {
    if (this.#pauseTimer !== undefined) return
    const { messages, picture: waiting } = ready(this.conversation.value)
    const ids = new Set(wanted.map(({ id }) => id))
    for (const { id, text, picture } of messages.filter((message) => ids.has(message.id))) {
      const more = picture?.mediaId ? { picture: picture.mediaId } : {}
      this.#connection.send({ type: 'message', id, text, ...more })
    }
    if (waiting?.picture && ids.has(waiting.id) && waiting.id !== this.#uploading) {
      this.#connection.send({ type: 'picture', id: waiting.id, size: waiting.picture.size })
    }
  }

  /** Stores a picture's bytes; then its message goes, and all that waited behind it. */
  async #upload({ id, mediaId, url }: ServerFrame & { type: 'upload' }): Promise<void> {
    const file = this.#files.get(id)
    if (!file || this.#uploading !== undefined) return
    this.#uploading = id
    this.#awaitOldest()
    const stored = await this.options.store(url, file)
    this.#uploading = undefined
    if (stored === 'later') this.#pause(STORE_AGAIN_S)
    else if (stored === 'stored') this.#apply({ type: 'stored', id, mediaId })
    else this.#apply({ type: 'refused', id, refusal: stored })
    this.#transmit(unsent(this.conversation.value))
    this.#awaitOldest()
  }

  /** Later messages must not extend the time that the oldest one has. */
  #awaitOldest(): void {
    const isLive = this.link.value === 'live'
    const first = isLive ? unsent(this.conversation.value)[0]?.id : undefined
    // An upload has its own patience.
    const oldest = first === this.#uploading ? undefined : first
    if (oldest === this.#awaited) return
    this.#awaited = oldest
    clearTimeout(this.#confirmTimer)
    if (oldest === undefined) return
    this.#confirmTimer = setTimeout(() => {
      this.reconnect()
    }, CONFIRM_WITHIN_MS)
  }
}
