import { describe, expect, it } from 'vitest'
import { bytesIn, enteredFrom, isEntered, overridesFrom } from './overrides'

describe("a tenant's own quotas", () => {
  const before = { instances: 3, egress_allow: ['*.lan'] }

  it('come back as they were', () => {
    expect(overridesFrom(enteredFrom(before), before)).toMatchObject(before)
  })

  it('are the plan’s again where a field was emptied', () => {
    expect(overridesFrom({ ...enteredFrom(before), instances: '' }, before).instances).toBeNull()
  })

  it('are whole numbers', () => {
    expect(isEntered({ ...enteredFrom({}), channels: ' 12 ' })).toBe(true)
    expect(isEntered({ ...enteredFrom({}), channels: '1.5' })).toBe(false)
    expect(isEntered({ ...enteredFrom({}), channels: '-1' })).toBe(false)
  })

  it('knows which of them are bytes', () => {
    expect(bytesIn('storage_bytes', ' 1024 ')).toBe(1_024)
    expect(bytesIn('pod_memory', '')).toBeNull()
    expect(bytesIn('members', '5')).toBeNull()
  })
})
