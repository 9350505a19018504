import { describe, expect, it } from 'vitest'
import { filterFrom, isFiltered, queryOf } from './filter'

const ALL = { phase: '', drift: '', release: '', tenant: '', named: '', suspended: false } as const

describe("the fleet's filter", () => {
  it('is in the address and comes back from there', () => {
    const filter = { phase: 'crash_loop', drift: 'objects', release: '0', tenant: 't1', named: '花店 & co', suspended: true } as const
    expect(filterFrom(queryOf(filter))).toEqual(filter)
  })

  it('leaves nothing in the address where it takes all', () => {
    expect(queryOf(ALL)).toEqual({})
    expect(isFiltered(ALL)).toBe(false)
    expect(isFiltered({ ...ALL, suspended: true })).toBe(true)
  })

  it('takes no words that there are not', () => {
    expect(filterFrom({ phase: 'deleted', drift: 'x', release: '-1', tenant: ['a', 'b'], named: null, suspended: '1' })).toEqual(ALL)
  })
})
