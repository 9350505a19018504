import { describe, expect, it } from 'vitest'
import { changesOf, fieldsOf, twice } from './fields'

const before = { city: '上海', size: 'M' }

describe('changesOf', () => {
  it('says nothing of what stayed', () => {
    expect(changesOf(before, fieldsOf(before))).toEqual({})
  })

  it.each([
    [[{ name: 'city', value: '上海' }], { size: null }],
    [[{ name: 'city', value: ' ' }, { name: 'size', value: 'M' }], { city: null }],
    [[...fieldsOf(before), { name: ' plan ', value: ' gold ' }], { plan: 'gold' }],
    [[...fieldsOf(before), { name: '', value: 'lost' }], {}],
    [[{ name: 'town', value: '上海' }, { name: 'size', value: 'L' }], { city: null, town: '上海', size: 'L' }],
  ])('tells of %o: %o', (written, changes) => {
    expect(changesOf(before, written)).toEqual(changes)
  })
})

describe('twice', () => {
  it('finds names that stand twice', () => {
    const written = ['a', 'b', ' a', '', ''].map((name) => ({ name, value: 'x' }))
    expect(twice(written)).toEqual(['a'])
  })
})
