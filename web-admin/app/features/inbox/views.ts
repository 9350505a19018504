/** The views of the inbox and what belongs into each; pure. */

import type { Schemas } from '../../api/paths'
import type { Conversation } from '../../api/types'

export const VIEWS = ['mine', 'unassigned', 'waiting', 'bot', 'mentions', 'closed', 'all'] as const
export type View = (typeof VIEWS)[number]
export type Order = 'newest' | 'waiting'
export type Counts = Schemas['CountsOut']

/** What a member narrows a view down to. */
export interface Filter {
  readonly order: Order
  readonly tagId: string
  readonly channelId: string
}

/** The server counts up to one more. */
const MOST_COUNTED = 99

export function belongs(conversation: Conversation, view: View, memberId: string | null): boolean {
  const { owner } = conversation
  switch (view) {
    case 'mine':
      return owner === 'human' && conversation.owner_member_id === memberId
    case 'unassigned':
      return owner === 'waiting'
    case 'waiting':
      return conversation.waiting_since !== null
    case 'bot':
    case 'closed':
      return owner === view
    // What was called to one's mind stays there, also when it was seen.
    case 'mentions':
    case 'all':
      return true
  }
}

export function fits(conversation: Conversation, { order, tagId, channelId }: Filter): boolean {
  return (
    (order === 'newest' || conversation.waiting_since !== null) &&
    (tagId === '' || conversation.tags.some(({ id }) => id === tagId)) &&
    (channelId === '' || conversation.channel_id === channelId)
  )
}

/** What happened last first, or who waits longest. */
export function inOrder(conversations: readonly Conversation[], order: Order): Conversation[] {
  const at = ({ waiting_since: since, last_message_at: last }: Conversation) =>
    order === 'waiting' ? Date.parse(since ?? last) : -Date.parse(last)
  return conversations.toSorted((one, other) => at(one) - at(other))
}

/** How many, as short as a badge; nothing for none. */
export function badge(count: number): string {
  if (count <= 0) return ''
  return count > MOST_COUNTED ? `${MOST_COUNTED}+` : String(count)
}

/** Members call a contact by their own remark before the name that they gave themselves. */
export function nameOf({ remark, name }: { remark: string | null; name: string | null }, nobody: string): string {
  return remark ?? name ?? nobody
}

export interface OwnerChange {
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
  const isSame = change.owner_member_id === conversation.owner_member_id
  const hasEnded = change.owner === 'bot' || change.owner === 'closed'
  return {
    ...conversation,
    owner: change.owner,
    owner_member_id: change.owner_member_id,
    owner_name: isSame ? conversation.owner_name : null,
    owner_version: change.owner_version,
    waiting_reason: change.reason,
    waiting_since: hasEnded ? null : conversation.waiting_since,
  }
}

/** One's own mark has moved; it never goes back. */
export function withSeen<C extends Conversation>(
  conversation: C,
  { conversation_id: of, number }: { conversation_id: string; number: number },
): C {
  if (conversation.id !== of || number <= conversation.seen_number) return conversation
  const unread = number >= conversation.last_number ? 0 : conversation.unread
  return { ...conversation, seen_number: number, unread }
}

/** A tag was put on or taken off. */
export function withTag<C extends Conversation>(
  conversation: C,
  { conversation_id: of, tag_id: tagId, attached }: { conversation_id: string; tag_id: string; attached: boolean },
  tags: readonly Schemas['TagOut'][],
): C {
  if (conversation.id !== of) return conversation
  const others = conversation.tags.filter(({ id }) => id !== tagId)
  const added = attached ? tags.filter(({ id }) => id === tagId) : []
  return { ...conversation, tags: [...others, ...added] }
}

/** Minutes since somebody began to wait, as short words; empty before the first minute is over. */
export function waited(since: string | null, now: number, language: string): string {
  const minutes = Math.floor((now - Date.parse(since ?? '')) / 60_000)
  if (!(minutes >= 1)) return ''
  const [amount, unit] = minutes < 60 ? [minutes, 'minute'] : minutes < 1_440 ? [minutes / 60, 'hour'] : [minutes / 1_440, 'day']
  return new Intl.NumberFormat(language, { style: 'unit', unit: unit as string, unitDisplay: 'short' }).format(
    Math.floor(amount as number),
  )
}
