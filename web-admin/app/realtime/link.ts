/**
 * Keeps one socket to the server alive: proves who we are, resumes where it stopped, renews the token
 * while it runs, notices a silent death, and comes back for as long as it makes sense.
 */

import { hintedDelay, retryDelay } from '../../kit/retry'
import type { Pass } from '../api/client'
import { parseFrame } from './frames'
import type { Frame, Position } from './frames'

/** `denied` and `refused` are final: the tenant or role is gone, or the server does not know us. */
export type LinkState = 'idle' | 'connecting' | 'live' | 'waiting' | 'denied' | 'refused'

const READY_WITHIN_MS = 10_000
/** Only a link that lived this long starts the back-off anew; else a failing server is hammered. */
const STABLE_AFTER_MS = 10_000
/** Presence holds 45 s at the server. Its acknowledgement shows that somebody still listens. */
const BEAT_EVERY_MS = 20_000
const ANSWER_WITHIN_MS = 10_000
/** The token is renewed this long before it ends, so that a slow answer is still in time. */
const RENEW_BEFORE_MS = 60_000
const MIN_RENEW_MS = 5_000

const SIGN_IN_ENDED = 4401
const FINAL: Record<number, LinkState> = { 4400: 'refused', 4403: 'denied' }

type Timer = ReturnType<typeof setTimeout>

export interface LinkOptions {
  openSocket: () => WebSocket
  pass: () => Pass | null
  /** Rejects when there is none; a refusal has then been dealt with. */
  renew: () => Promise<void>
  resume: () => Position | null
  isVisible: () => boolean
  onFrame: (frame: Frame) => void
  onState: (state: LinkState) => void
  newId: () => string
  random: () => number
  now: () => number
}

export class Link {
  #socket: WebSocket | null = null
  #state: LinkState = 'idle'
  #failures = 0
  #liveSince = 0
  #retry: Timer | undefined
  #beat: Timer | undefined
  #answer: Timer | undefined
  #renewal: Timer | undefined
  #awaited = ''
  /** Counts attempts, so that an answer to an earlier one changes nothing. */
  #attempt = 0

  constructor(private readonly options: LinkOptions) {}

  /** Starts, or tries at once instead of waiting any longer; a live one is asked if it lives. */
  wake(): void {
    if (this.#state === 'idle' || this.#state === 'waiting') void this.#open()
    else if (this.#state === 'live') this.#sayPresence()
  }

  /** Gives up a socket that may be dead without having said so. */
  reconnect(): void {
    if (this.#state === 'idle' || FINAL_STATES.has(this.#state)) return
    this.#release()
    void this.#open()
  }

  /** Ends it until somebody wakes it. */
  stop(): void {
    this.#release()
    this.#failures = 0
    this.#enter('idle')
  }

  /** Says something that may get lost; nothing waits for a connection. */
  say(type: string, data: Record<string, unknown>): string {
    const id = this.options.newId()
    if (this.#state === 'live') this.#socket?.send(JSON.stringify({ id, type, data }))
    return id
  }

  async #open(): Promise<void> {
    clearTimeout(this.#retry)
    const attempt = (this.#attempt += 1)
    this.#enter('connecting')
    if (!(await this.#hasPass()) || attempt !== this.#attempt) {
      if (attempt === this.#attempt) this.#closed(0, '')
      return
    }
    const socket = this.options.openSocket()
    this.#socket = socket
    socket.onopen = () => {
      const token = this.options.pass()?.token
      socket.send(JSON.stringify({ type: 'auth', token, resume: this.options.resume() }))
    }
    socket.onmessage = ({ data }) => {
      const frame = parseFrame(data)
      if (frame) this.#receive(frame)
    }
    socket.onclose = ({ code, reason }) => {
      this.#closed(code, reason)
    }
    this.#answer = setTimeout(() => {
      this.#closed(0, '')
    }, READY_WITHIN_MS)
  }

  async #hasPass(): Promise<boolean> {
    const pass = this.options.pass()
    if (pass && pass.endsAt > this.options.now()) return true
    try {
      await this.options.renew()
      return true
    } catch {
      return false
    }
  }

  #receive(frame: Frame): void {
    if (frame.type === 'ready') {
      clearTimeout(this.#answer)
      this.#liveSince = this.options.now()
      this.#enter('live')
      this.#scheduleRenewal()
      this.#sayPresence()
    } else if ((frame.type === 'ack' || frame.type === 'error') && frame.id === this.#awaited) {
      clearTimeout(this.#answer)
    }
    this.options.onFrame(frame)
  }

  #sayPresence(): void {
    clearTimeout(this.#beat)
    clearTimeout(this.#answer)
    this.#awaited = this.say('presence', { state: this.options.isVisible() ? 'online' : 'away' })
    this.#answer = setTimeout(() => {
      this.reconnect()
    }, ANSWER_WITHIN_MS)
    this.#beat = setTimeout(() => {
      this.#sayPresence()
    }, BEAT_EVERY_MS)
  }

  #scheduleRenewal(): void {
    clearTimeout(this.#renewal)
    const left = (this.options.pass()?.endsAt ?? 0) - this.options.now()
    this.#renewal = setTimeout(
      () => {
        void this.#renew()
      },
      Math.max(MIN_RENEW_MS, left - RENEW_BEFORE_MS),
    )
  }

  /** A call may have renewed the token already; then the socket is only told. */
  async #renew(): Promise<void> {
    const attempt = this.#attempt
    const left = (this.options.pass()?.endsAt ?? 0) - this.options.now()
    if (left <= RENEW_BEFORE_MS) await this.options.renew().catch(() => undefined)
    if (attempt !== this.#attempt || this.#state !== 'live') return
    const token = this.options.pass()?.token
    if (token) this.#socket?.send(JSON.stringify({ type: 'auth', token }))
    this.#scheduleRenewal()
  }

  #closed(code: number, reason: string): void {
    const { now, random } = this.options
    const wasStable = this.#state === 'live' && now() - this.#liveSince >= STABLE_AFTER_MS
    this.#release()
    const final = FINAL[code]
    if (final) {
      this.#enter(final)
      return
    }
    if (wasStable) this.#failures = 0
    const hinted = wasStable ? hintedDelay(code, reason, random) : null
    this.#retry = setTimeout(
      () => {
        void this.#again(code)
      },
      hinted ?? retryDelay(this.#failures, random),
    )
    this.#failures += 1
    this.#enter('waiting')
  }

  async #again(code: number): Promise<void> {
    const attempt = this.#attempt
    if (code === SIGN_IN_ENDED) await this.options.renew().catch(() => undefined)
    if (attempt === this.#attempt && this.#state === 'waiting') await this.#open()
  }

  /** The close event of a dead network can take a minute, so nobody listens for it any longer. */
  #release(): void {
    for (const timer of [this.#retry, this.#beat, this.#answer, this.#renewal]) clearTimeout(timer)
    this.#attempt += 1
    if (!this.#socket) return
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null
    this.#socket.close()
    this.#socket = null
  }

  #enter(state: LinkState): void {
    if (this.#state === state) return
    this.#state = state
    this.options.onState(state)
  }
}

const FINAL_STATES = new Set<LinkState>(Object.values(FINAL))
