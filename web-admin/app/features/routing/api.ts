/** Who is given what waits, how members are, and how customers found it. */

import { api } from '../../api/api'
import type { Schemas } from '../../api/paths'
import type { Page } from '../../api/types'
import type { Settings, SettingsIn } from './draft'

export type RoutedMember = Schemas['RoutingMemberOut'] & { id: string }
export type Ability = Schemas['AbilityIn']
export type Rating = Schemas['RatingOut']
export type Average = Schemas['RatingAverageOut']

export function getSettings(signal: AbortSignal): Promise<Settings> {
  return api.get('/routing/settings', { signal })
}

/** Refused when somebody else has changed them since that version. */
export function saveSettings(settings: SettingsIn): Promise<Settings> {
  return api.put('/routing/settings', { body: settings })
}

export async function listRouted(cursor: string | null, signal: AbortSignal): Promise<Page<RoutedMember>> {
  const { items, next } = await api.get('/routing/members', { query: { cursor }, signal })
  return { items: items.map((member) => ({ ...member, id: member.member_id })), next: next ?? null }
}

export async function saveAbility(id: string, ability: Ability): Promise<void> {
  await api.put('/routing/members/{member_id}', { path: { member_id: id }, body: ability })
}

export function listRatings(cursor: string | null, signal: AbortSignal): Promise<Page<Rating>> {
  return api.get('/routing/ratings', { query: { cursor }, signal })
}

export function averageRatings(since: string | null, until: string | null, signal: AbortSignal): Promise<Average[]> {
  return api.get('/routing/ratings/average', { query: { since, until }, signal })
}
