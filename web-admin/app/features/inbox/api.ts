/** The tenant's conversations, what is said in them, and on its way out of them. */

import { api } from '../../api/api'
import type { Schemas } from '../../api/paths'
import type { Conversation, Message, Owner, Page } from '../../api/types'
import { segmentOf } from './attachment'
import type { Reply } from './outbox'

export type Standing = Schemas['ConversationStandingOut']
export type DeliveryLog = Schemas['DeliveryLogOut']
export type OwnershipAction = 'take-over' | 'hand-back' | 'close'

/** The server's largest page. */
const MOST_OF_A_PAGE = 200
/** Pages of deliveries that are looked through for one. */
const MAX_PAGES = 5

const one = (id: string) => ({ conversation_id: id })

/** Newest first. */
export function listConversations(
  owner: Owner | null,
  cursor: string | null,
  signal: AbortSignal,
): Promise<Page<Conversation>> {
  // Who waits longest stands on the last page.
  const limit = owner === 'waiting' ? MOST_OF_A_PAGE : 50
  return api.get('/conversations', { query: { owner, cursor, limit }, signal })
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

/** A repeat under the same key has no second effect. */
export async function sendReply(id: string, { key, text, attachments }: Reply): Promise<Message> {
  const said = text === '' ? [] : [{ type: 'text' as const, text }]
  // The document names text only, though the server takes media as well.
  const segments = [...said, ...attachments.map(segmentOf)] as Schemas['MessageIn']['segments']
  const message = await api.post('/conversations/{conversation_id}/messages', {
    path: one(id),
    body: { segments },
    idempotencyKey: key,
  })
  return message as Message
}

/** The delivery of a message, with every attempt; null once it is too old to be found. */
export async function findDelivery(
  { id, delivery }: Message,
  conversationId: string,
  signal: AbortSignal,
): Promise<DeliveryLog | null> {
  const state = delivery?.state as Schemas['DeliveryState'] | undefined
  let cursor: string | null = null
  for (let page = 0; page < MAX_PAGES; page += 1) {
    const query = { conversation_id: conversationId, state, cursor, limit: 100 }
    const found: Schemas['Page_DeliveryEntryOut_'] = await api.get('/deliveries', { query, signal })
    const entry = found.items.find(({ message_id: of }) => of === id)
    if (entry) return api.get('/deliveries/{delivery_id}', { path: { delivery_id: entry.id }, signal })
    cursor = found.next ?? null
    if (cursor === null) break
  }
  return null
}

/** A new attempt. */
export async function resend(deliveryId: string): Promise<void> {
  await api.post('/deliveries/{delivery_id}/resend', { path: { delivery_id: deliveryId } })
}

/** What a person found out about one whose outcome is unknown; nothing is sent. */
export async function settle(deliveryId: string, outcome: 'sent' | 'not_sent'): Promise<void> {
  await api.post('/deliveries/{delivery_id}/settle', { path: { delivery_id: deliveryId }, body: { outcome } })
}
