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

  it('looks into fields', () => {
    const plan = (members: number) => ({ quotas: { members, channels: 3 } })
    expect(changesBetween(plan(5), plan(7))).toEqual([{ name: 'quotas.members', before: '5', after: '7' }])
    expect(changesBetween(null, { quotas: {} })).toEqual([])
  })
})
