/**
 * The lines that a reader keeps: at most so many, the oldest fall out. While it is paused, what comes
 * waits beside what is shown, at most so many as well.
 */

import { readLine } from './line'
import type { Line } from './line'

/** All that is kept, shown and waiting. */
export const MOST_LINES = 100_000
/** Of these, what may wait while it is paused. */
export const MOST_WAITING = 20_000

/** Its number counts from the first that ever came; it stays the same whatever falls out. */
export interface Entry extends Line {
  number: number
}

export class LogBuffer {
  #shown: Entry[] = []
  #waiting: Entry[] = []
  #isPaused = false
  #count = 0
  #lost = 0

  constructor(
    private readonly most = MOST_LINES,
    private readonly mostWaiting = MOST_WAITING,
  ) {}

  get shown(): readonly Entry[] {
    return this.#shown
  }

  /** How many came while it was paused; those that found no room are among them. */
  get waiting(): number {
    return this.#waiting.length + this.#lost
  }

  /** Of these, how many found no room any more. */
  get lost(): number {
    return this.#lost
  }

  get isPaused(): boolean {
    return this.#isPaused
  }

  /** How many came altogether. */
  get count(): number {
    return this.#count
  }

  add(lines: readonly string[]): void {
    const target = this.#isPaused ? this.#waiting : this.#shown
    let level = (this.#waiting.at(-1) ?? this.#shown.at(-1))?.level
    for (const raw of lines) {
      const line = readLine(raw, level)
      level = line.level
      target.push({ ...line, number: this.#count })
      this.#count += 1
    }
    const tooMany = this.#waiting.length - this.mostWaiting
    if (tooMany > 0) {
      this.#waiting.splice(0, tooMany)
      this.#lost += tooMany
    }
    this.#makeRoom()
  }

  pause(): void {
    this.#isPaused = true
  }

  resume(): void {
    this.#isPaused = false
    for (const entry of this.#waiting) this.#shown.push(entry)
    this.#waiting = []
    this.#lost = 0
    this.#makeRoom()
  }

  clear(): void {
    this.#shown = []
    this.#waiting = []
    this.#lost = 0
  }

  /** The texts of the newest, for finding where a log goes on. */
  newest(most: number): string[] {
    return [...this.#shown.slice(-most), ...this.#waiting.slice(-most)].slice(-most).map(({ text }) => text)
  }

  #makeRoom(): void {
    const tooMany = this.#shown.length + this.#waiting.length - this.most
    if (tooMany > 0) this.#shown.splice(0, tooMany)
  }
}
