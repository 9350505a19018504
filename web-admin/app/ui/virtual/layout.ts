/** Where the rows of a long list lie; pure. Heights are known once a row was shown, else estimated. */

export interface Layout {
  /** Where each row begins, and at the end where the last one ends. */
  readonly offsets: Float64Array
}

export interface Range {
  readonly first: number
  /** Behind the last row. */
  readonly end: number
}

export function layOut(keys: readonly string[], heights: ReadonlyMap<string, number>, estimate: number): Layout {
  const offsets = new Float64Array(keys.length + 1)
  let offset = 0
  for (const [index, key] of keys.entries()) {
    offset += heights.get(key) ?? estimate
    offsets[index + 1] = offset
  }
  return { offsets }
}

export function totalOf({ offsets }: Layout): number {
  return offsets.at(-1) ?? 0
}

/** The row that lies at a height, by halving. */
export function rowAt({ offsets }: Layout, height: number): number {
  let low = 0
  let high = Math.max(0, offsets.length - 2)
  while (low < high) {
    const middle = (low + high + 1) >> 1
    if ((offsets[middle] ?? 0) <= height) low = middle
    else high = middle - 1
  }
  return low
}

/** The rows to draw for what is seen, with some before and after. */
export function rangeOf(layout: Layout, top: number, height: number, extra: number): Range {
  const count = layout.offsets.length - 1
  if (count === 0) return { first: 0, end: 0 }
  return {
    first: Math.max(0, rowAt(layout, top) - extra),
    end: Math.min(count, rowAt(layout, top + height) + 1 + extra),
  }
}
