import { describe, expect, it } from 'vitest'
import { inStars } from './stars'

describe('inStars', () => {
  it.each([
    [5, '', '★★★★★'],
    [1, '  ', '★☆☆☆☆'],
    [4, ' 很快\n谢谢 ', '★★★★☆\n很快\n谢谢'],
  ])('writes %d with %j as %j', (score, words, text) => {
    expect(inStars(score, words)).toBe(text)
  })
})
