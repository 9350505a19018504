/** What platforms and agents sent and could not be used. */

import { api } from '../../api/api'
import type { Schemas } from '../../api/paths'
import type { Page } from '../../api/types'

export type DeadLetter = Schemas['DeadLetterOut']
export type DeadLetterWhole = Schemas['DeadLetterWholeOut']
export type Became = Schemas['ReplayedOut']['became']

/** As many as one call deals with. */
const AT_ONCE = 100

export function listLetters(cursor: string | null, signal: AbortSignal): Promise<Page<DeadLetter>> {
  return api.get('/dead-letters', { query: { cursor }, signal })
}

export function getLetter(id: string, signal: AbortSignal): Promise<DeadLetterWhole> {
  return api.get('/dead-letters/{letter_id}', { path: { letter_id: id }, signal })
}

export async function replayLetter(id: string): Promise<Became> {
  return (await api.post('/dead-letters/{letter_id}/replay', { path: { letter_id: id } })).became
}

/** The oldest of them, and what became of each. */
export async function replayOldest(): Promise<Became[]> {
  const { items } = await api.post('/dead-letters/replay', { body: { limit: AT_ONCE } })
  return items.map(({ became }) => became)
}
