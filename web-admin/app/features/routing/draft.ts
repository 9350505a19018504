/** The settings of routing while they are edited; numbers are texts until they are sent; pure. */

import type { Schemas } from '../../api/paths'
import { wholeOf } from '../../ui/whole'
import type { Bounds } from '../../ui/whole'
import { hoursDraftFrom, hoursFrom, hoursProblem } from './hours'
import type { HoursDraft, HoursProblem } from './hours'

export type Settings = Schemas['RoutingOut']
export type SettingsIn = Schemas['RoutingIn']

const MINUTES_OF_A_DAY = 1_440

/** Every number of the document. */
export const NUMBERS = {
  capacity: { min: 1, max: 200 },
  away_after_min: { min: 2, max: MINUTES_OF_A_DAY },
  patience_min: { min: 0, max: MINUTES_OF_A_DAY },
  place_every_min: { min: 1, max: MINUTES_OF_A_DAY },
  weight_skill: { min: 0, max: 100 },
  weight_load: { min: 0, max: 100 },
  weight_state: { min: 0, max: 100 },
  weight_known: { min: 0, max: 100 },
  weight_hours: { min: 0, max: 100 },
  close_after_min: { min: 0, max: 7 * MINUTES_OF_A_DAY },
  warn_before_min: { min: 1, max: MINUTES_OF_A_DAY },
  rating_within_h: { min: 1, max: 168 },
} as const satisfies Record<string, Bounds>

export type NumberName = keyof typeof NUMBERS
export const WEIGHTS = ['skill', 'load', 'state', 'known', 'hours'] as const

export interface Draft {
  enabled: boolean
  busyTakes: boolean
  numbers: Record<NumberName, string>
  skills: { key: string; name: string; isNew: boolean }[]
  /** The skill that each channel asks for; empty for none. */
  needs: Record<string, string>
  hours: HoursDraft | null
  closedText: string
  placeText: string
  warning: string
  question: string
  thanks: string
}

export type DraftProblem = HoursProblem | 'number' | 'skill_name' | 'skill_key' | 'skill_twice' | 'warning_too_early'

const KEY = /^[a-z0-9][a-z0-9_-]{0,39}$/

export function draftFrom(settings: Settings): Draft {
  return {
    enabled: settings.enabled,
    busyTakes: settings.busy_takes,
    numbers: numbersFrom(settings),
    skills: (settings.skills ?? []).map((skill) => ({ ...skill, isNew: false })),
    needs: Object.fromEntries((settings.needs ?? []).map(({ channel_id: id, skill }) => [id, skill])),
    hours: settings.hours ? hoursDraftFrom(settings.hours) : null,
    closedText: settings.closed_text,
    placeText: settings.place_text,
    warning: settings.closing.warning,
    question: settings.rating.question,
    thanks: settings.rating.thanks,
  }
}

/** What is sent; of a draft that has no problem. */
export function settingsFrom(draft: Draft, version: number): SettingsIn {
  const number = (name: NumberName): number => wholeOf(draft.numbers[name], NUMBERS[name]) ?? 0
  const known = new Set(draft.skills.map(({ key }) => key))
  return {
    enabled: draft.enabled,
    capacity: number('capacity'),
    away_after_min: number('away_after_min'),
    patience_min: number('patience_min'),
    busy_takes: draft.busyTakes,
    weights: {
      skill: number('weight_skill'),
      load: number('weight_load'),
      hours: number('weight_hours'),
      state: number('weight_state'),
      known: number('weight_known'),
    },
    skills: draft.skills.map(({ key, name }) => ({ key, name: name.trim() })),
    // A skill that was taken away is asked for by nobody.
    needs: Object.entries(draft.needs)
      .filter(([, skill]) => known.has(skill))
      .map(([channel_id, skill]) => ({ channel_id, skill })),
    hours: draft.hours && hoursFrom(draft.hours),
    closed_text: draft.closedText.trim(),
    place_text: draft.placeText.trim(),
    place_every_min: number('place_every_min'),
    closing: {
      after_min: number('close_after_min'),
      warning: draft.warning.trim(),
      warn_before_min: number('warn_before_min'),
    },
    rating: {
      question: draft.question.trim(),
      thanks: draft.thanks.trim(),
      within_h: number('rating_within_h'),
    },
    version,
  }
}

/** What keeps it from being saved, in the order of the form. */
export function problemsOf(draft: Draft): DraftProblem[] {
  const found: (DraftProblem | null)[] = [
    Object.keys(NUMBERS).every((name) => isNumber(draft, name as NumberName)) ? null : 'number',
    ...skillProblems(draft),
    draft.hours && hoursProblem(draft.hours),
    warnsTooEarly(draft) ? 'warning_too_early' : null,
  ]
  return found.filter((problem) => problem !== null)
}

/** A new skill with a key that nobody has: customers and colleagues read its name only. */
export function withSkill(skills: Draft['skills']): Draft['skills'] {
  const taken = new Set(skills.map(({ key }) => key))
  let number = skills.length + 1
  while (taken.has(`skill-${number}`)) number += 1
  return [...skills, { key: `skill-${number}`, name: '', isNew: true }]
}

function numbersFrom({ weights, closing, rating, ...settings }: Settings): Record<NumberName, string> {
  return {
    capacity: String(settings.capacity),
    away_after_min: String(settings.away_after_min),
    patience_min: String(settings.patience_min),
    place_every_min: String(settings.place_every_min),
    weight_skill: String(weights.skill),
    weight_load: String(weights.load),
    weight_state: String(weights.state),
    weight_known: String(weights.known),
    weight_hours: String(weights.hours),
    close_after_min: String(closing.after_min),
    warn_before_min: String(closing.warn_before_min),
    rating_within_h: String(rating.within_h),
  }
}

function isNumber(draft: Draft, name: NumberName): boolean {
  return wholeOf(draft.numbers[name], NUMBERS[name]) !== null
}

function skillProblems({ skills }: Draft): DraftProblem[] {
  const keys = skills.map(({ key }) => key)
  return [
    ...(skills.some(({ name }) => name.trim() === '') ? ['skill_name' as const] : []),
    ...(keys.some((key) => !KEY.test(key)) ? ['skill_key' as const] : []),
    ...(new Set(keys).size < keys.length ? ['skill_twice' as const] : []),
  ]
}

function warnsTooEarly({ numbers, warning }: Draft): boolean {
  const after = Number(numbers.close_after_min)
  return after > 0 && warning.trim() !== '' && Number(numbers.warn_before_min) >= after
}
