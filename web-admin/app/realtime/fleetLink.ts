/**
 * Operators have no stream; the server tells them when to look again. One connection serves all who
 * listen; it comes back by itself for as long as anybody does.
 */

import { retryDelay } from '../../kit/retry'
import { ApiError } from '../api/problem'

type Tell = () => void

export interface FleetLinkOptions {
  lines: (signal: AbortSignal) => AsyncIterable<string>
  /** Waits, and not longer than the signal lets it. */
  pause: (ms: number, signal: AbortSignal) => Promise<void>
  random: () => number
}

export class FleetLink {
  readonly #listeners = new Set<Tell>()
  #running: AbortController | null = null

  constructor(private readonly options: FleetLinkOptions) {}

  /** Returns what ends the listening. */
  listen(tell: Tell): () => void {
    this.#listeners.add(tell)
    if (this.#running === null) {
      this.#running = new AbortController()
      void this.#run(this.#running.signal)
    }
    return () => {
      this.#listeners.delete(tell)
      if (this.#listeners.size > 0) return
      this.#running?.abort()
      this.#running = null
    }
  }

  async #run(signal: AbortSignal): Promise<void> {
    for (let failures = 0; !signal.aborted; failures += 1) {
      try {
        for await (const line of this.options.lines(signal)) {
          if (line === '') continue
          failures = 0
          for (const tell of [...this.#listeners]) tell()
        }
      } catch (failure) {
        if (signal.aborted) return
        if (!(failure instanceof ApiError)) throw failure
        // Somebody who may not listen asks no more, until another page does.
        if (failure.isRefusal && failure.status !== 429) {
          this.#running = null
          return
        }
      }
      await this.options.pause(retryDelay(failures, this.options.random), signal)
    }
  }
}
