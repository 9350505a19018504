/** What a member may be given, while it is edited; pure. */

import { wholeOf } from '../../ui/whole'
import type { Ability, RoutedMember } from './api'
import { NUMBERS } from './draft'
import { hoursDraftFrom, hoursFrom, hoursProblem } from './hours'
import type { HoursDraft } from './hours'

/** Levels of a skill; a member without it has none. */
export const LEVELS = [1, 2, 3, 4, 5] as const

export interface AbilityDraft {
  /** Empty: as everybody. */
  capacity: string
  /** By skill; empty for who lacks it. */
  levels: Record<string, string>
  shift: HoursDraft | null
}

/** A capacity that is everybody's is shown as none of their own. */
export function abilityDraftFrom(member: RoutedMember, everybodys: number): AbilityDraft {
  return {
    capacity: member.capacity === everybodys ? '' : String(member.capacity),
    levels: Object.fromEntries(Object.entries(member.skills).map(([skill, level]) => [skill, String(level)])),
    shift: member.shift ? hoursDraftFrom(member.shift) : null,
  }
}

/** What is sent; skills that the tenant has no more are left out. */
export function abilityFrom(draft: AbilityDraft, skills: readonly string[]): Ability {
  const levels = skills.flatMap((skill) => {
    const level = Number(draft.levels[skill] ?? '')
    return level > 0 ? [[skill, level] as const] : []
  })
  return {
    capacity: draft.capacity.trim() === '' ? null : wholeOf(draft.capacity, NUMBERS.capacity),
    skills: Object.fromEntries(levels),
    shift: draft.shift && hoursFrom(draft.shift),
  }
}

export function isComplete({ capacity, shift }: AbilityDraft): boolean {
  const isNumber = capacity.trim() === '' || wholeOf(capacity, NUMBERS.capacity) !== null
  return isNumber && (shift === null || hoursProblem(shift) === null)
}
