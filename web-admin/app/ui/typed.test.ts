import { describe, expect, it } from 'vitest'
import { chosen, typedAt } from './typed'
import type { Mark } from './typed'

/** What is typed where `|` stands. */
function at(text: string, mark: Mark): string | null {
  const caret = text.indexOf('|')
  return typedAt(text.replace('|', ''), caret, mark)?.query ?? null
}

describe('typedAt', () => {
  it.each<[string, Mark, string | null]>([
    ['/|', '/', ''],
    ['/hel|', '/', 'hel'],
    ['/he|llo', '/', 'he'],
    ['well /bye|', '/', 'bye'],
    ['line\n/bye|', '/', 'bye'],
    ['https://a/b|', '/', null],
    ['1/2|', '/', null],
    ['/done with|', '/', null],
    ['|/hel', '/', null],
    ['请@小|', '@', '小'],
    ['(@Li|', '@', 'Li'],
    ['me@example|', '@', null],
    ['', '@', null],
    [`/${'a'.repeat(41)}|`, '/', null],
  ])('finds in %s behind %s: %s', (text, mark, query) => {
    expect(at(text, mark)).toBe(query)
  })
})

describe('chosen', () => {
  it('stands in the place of what was typed', () => {
    const typed = typedAt('well /by now', 8, '/')
    expect(typed && chosen('well /by now', typed, 'good bye')).toEqual({ text: 'well good bye now', caret: 13 })
  })
})
