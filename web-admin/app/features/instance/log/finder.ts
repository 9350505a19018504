/** Where a text is found in the lines; only those that came since are looked at again. */

import type { Entry } from './buffer'

export class Finder {
  #sought = ''
  #level = 0
  #upTo = -1
  #found: number[] = []

  /** The numbers of the lines that have it, in order; none for an empty text. */
  find(entries: readonly Entry[], sought: string, level: number): readonly number[] {
    const text = sought.trim().toLowerCase()
    if (text !== this.#sought || level !== this.#level) {
      this.#sought = text
      this.#level = level
      this.#upTo = -1
      this.#found = []
    }
    if (text === '') return this.#found
    const first = entries[0]?.number ?? 0
    const gone = this.#found.findIndex((number) => number >= first)
    this.#found = gone === -1 ? [] : this.#found.slice(gone)
    for (let index = this.#begin(entries); index < entries.length; index += 1) {
      const entry = entries[index]
      if (entry && entry.level >= level && entry.text.toLowerCase().includes(text)) this.#found.push(entry.number)
    }
    this.#upTo = entries.at(-1)?.number ?? this.#upTo
    return this.#found
  }

  #begin(entries: readonly Entry[]): number {
    return placeOf(entries, this.#upTo + 1)
  }
}

/** Where the first line of this number, or behind it, stands; by halving. */
export function placeOf(entries: readonly Entry[], number: number): number {
  let low = 0
  let high = entries.length
  while (low < high) {
    const middle = (low + high) >> 1
    if ((entries[middle]?.number ?? 0) < number) low = middle + 1
    else high = middle
  }
  return low
}

/** A text in pieces: each second one is what was sought. */
export function piecesOf(text: string, sought: string): string[] {
  const wanted = sought.trim().toLowerCase()
  if (wanted === '') return [text]
  const pieces: string[] = []
  const lower = text.toLowerCase()
  let from = 0
  for (let at = lower.indexOf(wanted); at !== -1; at = lower.indexOf(wanted, from)) {
    pieces.push(text.slice(from, at), text.slice(at, at + wanted.length))
    from = at + wanted.length
  }
  return [...pieces, text.slice(from)]
}
