/** The views of the inbox and what belongs into each; pure. */

import type { Conversation, Owner } from '../../api/types'

export const VIEWS = ['mine', 'waiting', 'bot', 'closed', 'all'] as const
export type View = (typeof VIEWS)[number]

/** What the server is asked for; of `mine` it knows only that people own them. */
export const OWNER_OF: Record<View, Owner | null> = {
  mine: 'human',
  waiting: 'waiting',
  bot: 'bot',
  closed: 'closed',
  all: null,
}

export function belongs(conversation: Conversation, view: View, memberId: string | null): boolean {
  if (view === 'mine') return conversation.owner === 'human' && conversation.owner_member_id === memberId
  const owner = OWNER_OF[view]
  return owner === null || conversation.owner === owner
}

/** Who waits longest comes first, everywhere else what happened last. */
export function inOrder(conversations: readonly Conversation[], view: View): Conversation[] {
  const newestFirst = conversations.toSorted(
    (one, other) => Date.parse(other.last_message_at) - Date.parse(one.last_message_at),
  )
  return view === 'waiting' ? newestFirst.toReversed() : newestFirst
}

interface OwnerChange {
  conversation_id: string
  owner: string
  owner_member_id: string | null
  owner_version: number
  reason: string | null
}

/** What the stream told of an owner; an older version changes nothing. */
export function withOwner<C extends Conversation>(conversation: C, change: OwnerChange): C {
  const isNews =
    conversation.id === change.conversation_id && change.owner_version > conversation.owner_version
  if (!isNews) return conversation
  return {
    ...conversation,
    owner: change.owner,
    owner_member_id: change.owner_member_id,
    owner_version: change.owner_version,
    waiting_reason: change.reason,
  }
}

/** Minutes since somebody began to wait, as short words; empty before the first minute is over. */
export function waited(since: string, now: number, language: string): string {
  const minutes = Math.floor((now - Date.parse(since)) / 60_000)
  if (!(minutes >= 1)) return ''
  const [amount, unit] = minutes < 60 ? [minutes, 'minute'] : minutes < 1_440 ? [minutes / 60, 'hour'] : [minutes / 1_440, 'day']
  return new Intl.NumberFormat(language, { style: 'unit', unit: unit as string, unitDisplay: 'short' }).format(
    Math.floor(amount as number),
  )
}
