import { describe, expect, it } from 'vitest'
import type { Revision, Standing } from './api'
import { comparedWith, marksOf, mayPublish, mayRollBack } from './standing'

const standing = (numbers: Partial<Standing>): Standing => ({
  desired: 3,
  delivered: 3,
  applied: 2,
  last_good: 2,
  rejected: 3,
  errors: [],
  pending_restart: false,
  ...numbers,
})
const revision = (number: number, publishedAt: string | null) =>
  ({ number, published_at: publishedAt }) as Revision

describe('marksOf', () => {
  it('says which versions are wanted, run, good and refused', () => {
    expect(marksOf(3, standing({}))).toEqual(['desired', 'rejected'])
    expect(marksOf(2, standing({}))).toEqual(['applied', 'lastGood'])
    expect(marksOf(1, standing({}))).toEqual([])
  })
})

describe('comparedWith', () => {
  it('is the version in force', () => {
    expect(comparedWith(3, standing({}))).toBe(2)
    expect(comparedWith(4, standing({ applied: null }))).toBe(3)
  })

  it('leaves the one in force to be compared with the one before', () => {
    expect(comparedWith(2, standing({}))).toBeNull()
  })
})

describe('what may be done with a version', () => {
  it('is to publish a draft', () => {
    expect(mayPublish(revision(4, null))).toBe(true)
    expect(mayRollBack(revision(4, null), standing({}))).toBe(false)
  })

  it('is to go back to what was published, but not to what is wanted already', () => {
    const published = '2026-01-01T00:00:00Z'
    expect(mayPublish(revision(1, published))).toBe(false)
    expect(mayRollBack(revision(1, published), standing({}))).toBe(true)
    expect(mayRollBack(revision(3, published), standing({}))).toBe(false)
  })
})
