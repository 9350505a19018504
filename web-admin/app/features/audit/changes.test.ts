import { describe, expect, it } from 'vitest'
import { changesBetween } from './changes'

describe('changesBetween', () => {
  it('names what was, what is, and what differs', () => {
    expect(changesBetween({ role: 'member', name: 'A' }, { role: 'admin', name: 'A' })).toEqual([
      { name: 'role', before: 'member', after: 'admin' },
    ])
  })

  it('knows what came and what went', () => {
    expect(changesBetween(null, { scopes: ['a'] })).toEqual([{ name: 'scopes', before: '', after: '["a"]' }])
    expect(changesBetween({ on: true }, null)).toEqual([{ name: 'on', before: 'true', after: '' }])
    expect(changesBetween(null, null)).toEqual([])
  })
})
