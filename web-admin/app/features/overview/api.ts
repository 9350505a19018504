/** The tenant's instances, and how far a newcomer has come. */

import { api } from '../../api/api'
import type { Instance, Page } from '../../api/types'
import { hasAnswered } from './checklist'
import type { Facts } from './checklist'

export function listInstances(cursor: string | null, signal: AbortSignal): Promise<Page<Instance>> {
  return api.get('/instances', { query: { cursor }, signal })
}

/** What the checklist asks about; each is the first page of a list, as small as it goes. */
export async function getFacts(signal: AbortSignal): Promise<Facts> {
  const few = { limit: 2 }
  const [instances, conversations, turns, members, invitations] = await Promise.all([
    api.get('/instances', { signal }),
    api.get('/conversations', { query: { limit: 1 }, signal }),
    api.get('/turns', { signal }),
    api.get('/members', { query: few, signal }),
    api.get('/invitations', { query: few, signal }),
  ])
  return {
    isConnected: instances.items.some(({ conditions }) =>
      conditions.some(({ type, status }) => type === 'ChannelConnected' && status),
    ),
    hasMessage: conversations.items.length > 0,
    hasAnswered: hasAnswered(turns.items),
    hasCompany: members.items.length > 1 || invitations.items.length > 0,
  }
}
