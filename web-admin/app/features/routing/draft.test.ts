import { describe, expect, it } from 'vitest'
import { draftFrom, problemsOf, settingsFrom, withSkill } from './draft'
import type { Settings } from './draft'

const settings: Settings = {
  enabled: true,
  capacity: 7,
  away_after_min: 10,
  patience_min: 0,
  busy_takes: false,
  weights: { skill: 3, load: 4, hours: 1, state: 2, known: 9 },
  skills: [{ key: 'tea', name: '茶' }],
  needs: [{ channel_id: 'c1', skill: 'tea' }],
  hours: null,
  closed_text: '明天见',
  place_text: '',
  place_every_min: 5,
  closing: { after_min: 30, warning: '还在吗？', warn_before_min: 5 },
  rating: { question: '', thanks: '', within_h: 24 },
  version: 3,
  updated_at: null,
  open: true,
}

/** What is read besides is not sent. */
const toldOnly = { updated_at: settings.updated_at, open: settings.open }

describe('the draft of routing', () => {
  it('is sent as it was read when nothing was changed', () => {
    const draft = draftFrom(settings)
    expect(problemsOf(draft)).toEqual([])
    expect({ ...settingsFrom(draft, 3), ...toldOnly }).toEqual(settings)
  })

  it('knows numbers that are none or out of bounds', () => {
    const draft = draftFrom(settings)
    draft.numbers.weight_known = '101'
    expect(problemsOf(draft)).toEqual(['number'])
    draft.numbers.weight_known = '1.5'
    expect(problemsOf(draft)).toEqual(['number'])
  })

  it('knows a warning that comes before the silence', () => {
    const draft = draftFrom(settings)
    draft.numbers.warn_before_min = '30'
    expect(problemsOf(draft)).toEqual(['warning_too_early'])
    draft.warning = ' '
    expect(problemsOf(draft)).toEqual([])
  })

  it('gives new skills keys of their own and asks for their names', () => {
    const draft = draftFrom({ ...settings, skills: [{ key: 'skill-2', name: '茶' }] })
    draft.skills = withSkill(draft.skills)
    expect(draft.skills.at(-1)).toEqual({ key: 'skill-3', name: '', isNew: true })
    expect(problemsOf(draft)).toEqual(['skill_name'])
    draft.skills = [{ key: 'Tee', name: 'a', isNew: true }, { key: 'Tee', name: 'b', isNew: true }]
    expect(problemsOf(draft)).toEqual(['skill_key', 'skill_twice'])
  })

  it('lets no channel ask for a skill that is gone', () => {
    const draft = draftFrom(settings)
    draft.skills = []
    expect(settingsFrom(draft, 3).needs).toEqual([])
  })

  it('says what is wrong with the hours', () => {
    const draft = draftFrom({
      ...settings,
      hours: { time_zone: 'UTC', week: { friday: [{ begins: '10:00', ends: '09:00' }] } },
    })
    expect(problemsOf(draft)).toEqual(['interval_backwards'])
  })
})
