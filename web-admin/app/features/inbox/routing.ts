/** Who is there to answer, and handing a conversation on. */

import { api } from '../../api/api'
import type { Schemas } from '../../api/paths'
import type { Conversation } from '../../api/types'

export type Colleague = Schemas['RoutingMemberOut']
export type OwnState = Schemas['StateIn']['state']
export const STATES: readonly OwnState[] = ['online', 'busy', 'away', 'offline']

/** Members that are looked through; a tenant that has more hands on to skills. */
const MAX_PAGES = 5

export async function listColleagues(signal: AbortSignal): Promise<Colleague[]> {
  const colleagues: Colleague[] = []
  let cursor: string | null = null
  for (let page = 0; page < MAX_PAGES; page += 1) {
    const query = { limit: 200, cursor }
    const found: Schemas['Page_RoutingMemberOut_'] = await api.get('/routing/members', { query, signal })
    colleagues.push(...found.items)
    cursor = found.next ?? null
    if (cursor === null) break
  }
  return colleagues
}

export type Skill = Schemas['Skill']

/** Skills mean something while routing is on. */
export async function listSkills(signal: AbortSignal): Promise<Skill[]> {
  const { enabled, skills } = await api.get('/routing/settings', { signal })
  return enabled ? (skills ?? []) : []
}

export async function sayState(state: OwnState): Promise<void> {
  await api.put('/routing/me', { body: { state } })
}

export type Receiver = { member_id: string } | { skill: string }

/** Refused when somebody else changed the owner since this version was read. */
export function transfer(
  { id, owner_version }: Conversation,
  receiver: Receiver,
  note: string,
): Promise<Conversation> {
  return api.post('/conversations/{conversation_id}/transfer', {
    path: { conversation_id: id },
    body: { ...receiver, note, owner_version },
  })
}
