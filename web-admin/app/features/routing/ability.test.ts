import { describe, expect, it } from 'vitest'
import { abilityDraftFrom, abilityFrom, isComplete } from './ability'
import type { RoutedMember } from './api'

const member: RoutedMember = {
  id: 'm1',
  member_id: 'm1',
  name: '小林',
  state: 'online',
  said: 'online',
  state_at: null,
  load: 2,
  capacity: 8,
  skills: { tea: 4, coffee: 1 },
  shift: null,
}

describe('what a member may be given', () => {
  it('is sent as it was read', () => {
    expect(abilityFrom(abilityDraftFrom(member, 5), ['tea', 'coffee'])).toEqual({
      capacity: 8,
      skills: { tea: 4, coffee: 1 },
      shift: null,
    })
  })

  it('follows everybody where the capacity is the same', () => {
    const draft = abilityDraftFrom(member, 8)
    expect(draft.capacity).toBe('')
    expect(abilityFrom(draft, []).capacity).toBeNull()
  })

  it('leaves out skills that are lacked or gone', () => {
    const draft = abilityDraftFrom(member, 5)
    draft.levels.tea = ''
    expect(abilityFrom(draft, ['tea']).skills).toEqual({})
  })

  it('is complete with a number and hours that make sense', () => {
    const draft = abilityDraftFrom(member, 5)
    expect(isComplete(draft)).toBe(true)
    draft.capacity = '0'
    expect(isComplete(draft)).toBe(false)
    draft.capacity = ''
    draft.shift = { time_zone: 'UTC', week: weekOf([{ begins: '10:00', ends: '09:00' }]), days: [] }
    expect(isComplete(draft)).toBe(false)
  })
})

function weekOf(monday: { begins: string; ends: string }[]) {
  return { monday, tuesday: [], wednesday: [], thursday: [], friday: [], saturday: [], sunday: [] }
}
