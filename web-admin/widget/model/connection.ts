/**
 * Keeps one socket to the server alive: reconnects with full jitter and never gives up, except where
 * the server says that the channel does not exist, is closed, or is not for this site.
 */

import { hintedDelay, retryDelay } from '../../kit/retry'
import { parseFrame } from './protocol'
import type { ClientFrame, ServerFrame } from './protocol'

/** `unknown` and `closed` are final. */
export type Link = 'connecting' | 'live' | 'waiting' | 'unknown' | 'closed'

/** A server that has not welcomed us by then is treated as unreachable. */
const WELCOME_WITHIN_MS = 10_000
/** Only a link that lived this long starts the back-off anew; else a failing server is hammered. */
const STABLE_AFTER_MS = 10_000

const FINAL_CODES: Record<number, Link> = { 4403: 'closed', 4404: 'unknown', 4410: 'closed' }

export interface ConnectionOptions {
  openSocket: () => WebSocket
  hello: () => ClientFrame
  onFrame: (frame: ServerFrame) => void
  onLink: (link: Link) => void
  random: () => number
  now: () => number
}

export class Connection {
  #socket: WebSocket | null = null
  #link: Link = 'waiting'
  #timer: ReturnType<typeof setTimeout> | undefined
  #failures = 0
  #liveSince = 0

  constructor(private readonly options: ConnectionOptions) {}

  /** Starts, or tries at once instead of waiting any longer. */
  wake(): void {
    if (this.#link === 'waiting') this.#open()
  }

  /** Gives up a socket that may be dead without having said so. */
  reconnect(): void {
    if (this.#isFinal()) return
    this.#release()
    this.#open()
  }

  send(frame: ClientFrame): void {
    if (this.#link === 'live') this.#socket?.send(JSON.stringify(frame))
  }

  #open(): void {
    clearTimeout(this.#timer)
    this.#enter('connecting')
    const socket = this.options.openSocket()
    this.#socket = socket
    socket.onopen = () => {
      socket.send(JSON.stringify(this.options.hello()))
    }
    socket.onmessage = ({ data }) => {
      const frame = parseFrame(data)
      if (frame) this.#receive(frame)
    }
    socket.onclose = ({ code, reason }) => {
      this.#closed(code, reason)
    }
    this.#timer = setTimeout(() => {
      this.#closed(0, '')
    }, WELCOME_WITHIN_MS)
  }

  #receive(frame: ServerFrame): void {
    if (frame.type === 'welcome') {
      clearTimeout(this.#timer)
      this.#liveSince = this.options.now()
      this.#enter('live')
    }
    this.options.onFrame(frame)
  }

  #closed(code: number, reason: string): void {
    const wasStable =
      this.#link === 'live' && this.options.now() - this.#liveSince >= STABLE_AFTER_MS
    this.#release()
    const final = FINAL_CODES[code]
    if (final) {
      this.#enter(final)
      return
    }
    if (wasStable) this.#failures = 0
    const { random } = this.options
    const hinted = wasStable ? hintedDelay(code, reason, random) : null
    this.#timer = setTimeout(
      () => {
        this.#open()
      },
      hinted ?? retryDelay(this.#failures, random),
    )
    this.#failures += 1
    this.#enter('waiting')
  }

  /** The close event of a dead network can take a minute, so nobody listens for it any longer. */
  #release(): void {
    clearTimeout(this.#timer)
    if (!this.#socket) return
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null
    this.#socket.close()
    this.#socket = null
  }

  #enter(link: Link): void {
    if (this.#link === link) return
    this.#link = link
    this.options.onLink(link)
  }

  #isFinal(): boolean {
    return this.#link === 'unknown' || this.#link === 'closed'
  }
}
