import { describe, expect, it } from 'vitest'
import { MAX_PAGES, readPages } from './whole'

/** Two to a page, as many as there are. */
function server(total: number) {
  return (cursor: string | null) => {
    const from = Number(cursor ?? 0)
    const items = Array.from({ length: Math.min(2, total - from) }, (_, index) => from + index)
    return Promise.resolve({ items, next: from + 2 < total ? String(from + 2) : null })
  }
}
const { signal } = new AbortController()

describe('pages that are read as a whole', () => {
  it('are as many as were asked for', async () => {
    expect(await readPages(server(5), 1, signal)).toEqual({ items: [0, 1], next: '2' })
    expect(await readPages(server(5), 2, signal)).toEqual({ items: [0, 1, 2, 3], next: '4' })
    expect(await readPages(server(5), 4, signal)).toEqual({ items: [0, 1, 2, 3, 4], next: null })
  })

  it('end at a bound', async () => {
    const { items, next } = await readPages(server(100), MAX_PAGES, signal)
    expect([items.length, next]).toEqual([20, null])
  })
})
