/** The tenant's conversations, what is said in them, and on its way out of them. */

import { api } from '../../api/api'
import type { Schemas } from '../../api/paths'
import type { Conversation, Message, Owner, Page } from '../../api/types'

export type Standing = Schemas['ConversationStandingOut']
export type DeliveryLog = Schemas['DeliveryLogOut']
export type OwnershipAction = 'take-over' | 'hand-back' | 'close'

const one = (id: string) => ({ conversation_id: id })

/** Newest first. */
export function listConversations(
  owner: Owner | null,
  cursor: string | null,
  signal: AbortSignal,
): Promise<Page<Conversation>> {
  return api.get('/conversations', { query: { owner, cursor }, signal })
}

export function getConversation(id: string, signal: AbortSignal): Promise<Standing> {
  return api.get('/conversations/{conversation_id}', { path: one(id), signal })
}

/** Newest first; the cursor leads to older ones. */
export async function listMessages(
  id: string,
  cursor: string | null,
  signal: AbortSignal,
): Promise<Page<Message>> {
  const query = { cursor, order: 'desc' as const, limit: 100 }
  const page = await api.get('/conversations/{conversation_id}/messages', { path: one(id), query, signal })
  return page as Page<Message>
}

/** Refused when somebody else changed the owner since this version was read. */
export function changeOwner(
  { id, owner_version }: Conversation,
  action: OwnershipAction,
): Promise<Conversation> {
  return api.post(`/conversations/{conversation_id}/${action}`, {
    path: one(id),
    body: { owner_version },
  })
}

export async function sendReply(id: string, text: string, idempotencyKey: string): Promise<void> {
  const body = { segments: [{ type: 'text' as const, text }] }
  await api.post('/conversations/{conversation_id}/messages', { path: one(id), body, idempotencyKey })
}
