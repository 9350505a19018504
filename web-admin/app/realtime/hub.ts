/** Hands what the stream tells to whoever listens, in order, and knows the place in it. */

import type { EventType } from './eventTypes'
import { follow } from './follow'
import type { Frame, Note, Position, StreamEvent } from './frames'

export type OnEvent = (event: StreamEvent) => void
type OnNote = (note: Note) => void
type OnReload = () => void

export class Hub {
  #at: Position | null = null
  readonly #events = new Map<EventType, Set<OnEvent>>()
  readonly #notes = new Set<OnNote>()
  readonly #reloads = new Set<OnReload>()

  /** Where the stream is resumed. */
  get place(): Position | null {
    return this.#at
  }

  /** Another person or tenant: their stream is another one. */
  forget(): void {
    this.#at = null
  }

  receive(frame: Frame): void {
    if (frame.type === 'note') {
      for (const tell of [...this.#notes]) tell(frame.event)
      return
    }
    const { at, heard } = follow(this.#at, frame)
    this.#at = at
    if (heard?.kind === 'reload') for (const tell of [...this.#reloads]) tell()
    if (heard?.kind !== 'event') return
    for (const tell of [...(this.#events.get(heard.event.type) ?? [])]) tell(heard.event)
  }

  /** Each of these returns what ends the listening. */
  onEvent(types: readonly EventType[], tell: OnEvent): () => void {
    for (const type of types) {
      const listeners = this.#events.get(type) ?? new Set()
      this.#events.set(type, listeners.add(tell))
    }
    return () => {
      for (const type of types) this.#events.get(type)?.delete(tell)
    }
  }

  onNote(tell: OnNote): () => void {
    this.#notes.add(tell)
    return () => void this.#notes.delete(tell)
  }

  /** Something was missed: whatever is shown must be loaded again. */
  onReload(tell: OnReload): () => void {
    this.#reloads.add(tell)
    return () => void this.#reloads.delete(tell)
  }
}
