import { describe, expect, it } from 'vitest'
import { LogBuffer } from './buffer'
import { Finder, piecesOf, placeOf } from './finder'

describe('Finder', () => {
  it('finds without regard to case, and only in grave enough lines', () => {
    const buffer = new LogBuffer()
    buffer.add(['{"level":"info","message":"Tea is up"}', '{"level":"error","message":"no tea"}', '{"level":"error","message":"x"}'])
    const finder = new Finder()
    expect(finder.find(buffer.shown, 'TEA', 0)).toEqual([0, 1])
    expect(finder.find(buffer.shown, 'tea', 3)).toEqual([1])
    expect(finder.find(buffer.shown, ' ', 0)).toEqual([])
  })

  it('finds what comes later, and forgets what fell out', () => {
    const buffer = new LogBuffer(3, 1)
    const finder = new Finder()
    buffer.add(['tea 0', 'milk 1'])
    expect(finder.find(buffer.shown, 'tea', 0)).toEqual([0])
    buffer.add(['tea 2', 'tea 3'])
    expect(finder.find(buffer.shown, 'tea', 0)).toEqual([2, 3])
  })
})

describe('placeOf', () => {
  it('finds a line by its number, also where some are left out', () => {
    const entries = [2, 5, 9].map((number) => ({ number, text: '', level: 0 }))
    expect([2, 5, 9, 3, 10].map((number) => placeOf(entries, number))).toEqual([0, 1, 2, 1, 3])
  })
})

describe('piecesOf', () => {
  it('cuts out every place, as it is written there', () => {
    expect(piecesOf('Tea and tea', 'tea')).toEqual(['', 'Tea', ' and ', 'tea', ''])
    expect(piecesOf('milk', 'tea')).toEqual(['milk'])
    expect(piecesOf('milk', ' ')).toEqual(['milk'])
  })
})
