// @vitest-environment happy-dom
import { beforeEach, describe, expect, it } from 'vitest'
import { draftsIn, forgetDrafts } from './drafts'

describe('drafts', () => {
  let time = 0
  const drafts = (member: string) => draftsIn(localStorage, member, () => (time += 1))

  beforeEach(() => {
    localStorage.clear()
  })

  it('are there again after a reload, for the one who wrote them', () => {
    drafts('me').write('c1', '12 apples\nand more')
    expect(drafts('me').read('c1')).toBe('12 apples\nand more')
    expect(drafts('me').read('c2')).toBe('')
    expect(drafts('you').read('c1')).toBe('')
  })

  it('end when the text is empty, and when the person signs out', () => {
    localStorage.setItem('other', 'stays')
    drafts('me').write('c1', 'a')
    drafts('me').write('c2', 'b')
    drafts('me').write('c1', '')
    expect(localStorage).toHaveLength(2)
    forgetDrafts(localStorage)
    expect(Object.keys(localStorage)).toEqual(['other'])
  })

  it('give way to newer ones', () => {
    for (let n = 0; n < 105; n += 1) drafts('me').write(`c${n}`, 'text')
    expect(localStorage).toHaveLength(100)
    expect(drafts('me').read('c4')).toBe('')
    expect(drafts('me').read('c5')).toBe('text')
  })
})
