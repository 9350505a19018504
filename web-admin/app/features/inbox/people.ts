/** Who looks at a conversation and who types, as their notes say; pure. */

import type { Note } from '../../realtime/frames'

export interface Seen {
  readonly kind: 'viewing' | 'typing'
  readonly memberId: string
  readonly name: string
  readonly conversationId: string
  /** By our own clock. */
  readonly until: number
}

export function noted(seen: readonly Seen[], { type, data }: Note, now: number): readonly Seen[] {
  if (type === 'presence' || type === 'answering') return seen
  const others = seen.filter(({ kind, memberId, until }) => until > now && !(kind === type && memberId === data.member_id))
  if (data.state === '' || data.conversation_id === null) return others
  const one: Seen = {
    kind: type,
    memberId: data.member_id,
    name: data.name,
    conversationId: data.conversation_id,
    until: now + data.ttl_s * 1_000,
  }
  return [...others, one]
}

/** The names of others at a conversation; who types is not also said to look. */
export function namesAt(
  seen: readonly Seen[],
  conversationId: string,
  me: string | null,
  now: number,
): { typing: string[]; viewing: string[] } {
  const here = seen.filter((one) => one.conversationId === conversationId && one.memberId !== me && one.until > now)
  const typing = here.filter(({ kind }) => kind === 'typing')
  const viewing = here.filter(
    ({ kind, memberId }) => kind === 'viewing' && !typing.some((one) => one.memberId === memberId),
  )
  return { typing: typing.map(({ name }) => name), viewing: viewing.map(({ name }) => name) }
}
