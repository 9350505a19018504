import { describe, expect, it } from 'vitest'
import { idsIn } from './entries'

describe('idsIn', () => {
  it('takes each line once, without blanks', () => {
    expect(idsIn(' a\n\nb \r\na')).toEqual(['a', 'b'])
    expect(idsIn('\n ')).toEqual([])
  })
})
