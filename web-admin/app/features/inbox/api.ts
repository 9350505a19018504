/** The tenant's conversations, what is said in them, and on its way out of them. */

import { api } from '../../api/api'
import type { Schemas } from '../../api/paths'
import type { Conversation, Message, Page } from '../../api/types'
import { takesHere, takesNot } from './alerts/alert'
import { segmentOf } from './attachment'
import type { Reply } from './outbox'
import type { Note, Transfer } from './thread'
import type { Counts, Filter, View } from './views'

export type Standing = Schemas['ConversationStandingOut']
export type DeliveryLog = Schemas['DeliveryLogOut']
export type Turn = Schemas['TurnOut'] & { id: string }
export type CannedReply = Schemas['CannedReplyOut']
export type OwnershipAction = 'take-over' | 'hand-back' | 'close'

/** Pages of deliveries that are looked through for one. */
const MAX_PAGES = 5
/** The server's largest page, and as many as hold all notes about one contact. */
const MOST_OF_A_PAGE = 200
const MAX_NOTE_PAGES = 10

const one = (id: string) => ({ conversation_id: id })

export function listConversations(
  view: View,
  { order, tagId, channelId }: Filter,
  cursor: string | null,
  signal: AbortSignal,
): Promise<Page<Conversation>> {
  // Who comes to wait stands at the end, which a fresh first page should reach.
  const limit = order === 'waiting' ? MOST_OF_A_PAGE : 50
  const query = { view, order, tag_id: tagId || null, channel_id: channelId || null, cursor, limit }
  return api.get('/conversations', { query, signal })
}

export function getCounts(signal: AbortSignal): Promise<Counts> {
  return api.get('/conversations/counts', { signal })
}

/** One's own mark: up to which message, and note, one has seen a conversation. */
export async function markSeen(id: string, number: number, noteId: string | null): Promise<number> {
  const body = { number, note_id: noteId }
  return (await api.put('/conversations/{conversation_id}/seen', { path: one(id), body })).number
}

export function getConversation(id: string, signal: AbortSignal): Promise<Standing> {
  return api.get('/conversations/{conversation_id}', { path: one(id), signal })
}

/** Newest first, of those before a number where one is given; the cursor leads to older ones. */
export async function listMessages(
  id: string,
  cursor: string | null,
  before: number | null,
  signal: AbortSignal,
): Promise<Page<Message>> {
  const query = { cursor, order: 'desc' as const, limit: 100, before_number: before }
  const page = await api.get('/conversations/{conversation_id}/messages', { path: one(id), query, signal })
  return page as Page<Message>
}

/** All notes that stand behind a message and what follows it. */
export async function listNotes(id: string, fromNumber: number, signal: AbortSignal): Promise<Note[]> {
  const notes: Note[] = []
  let cursor: string | null = null
  for (let page = 0; page < MAX_NOTE_PAGES; page += 1) {
    const query = { from_number: fromNumber, order: 'desc' as const, limit: MOST_OF_A_PAGE, cursor }
    const found: Page<Note> = await api.get('/conversations/{conversation_id}/notes', {
      path: one(id),
      query,
      signal,
    })
    notes.push(...found.items)
    cursor = found.next ?? null
    if (cursor === null) break
  }
  return notes
}

export async function addNote(id: string, text: string, mentions: string[]): Promise<void> {
  await api.post('/conversations/{conversation_id}/notes', { path: one(id), body: { text, mentions } })
}

export async function changeNote(noteId: string, text: string, mentions: string[]): Promise<void> {
  await api.patch('/notes/{note_id}', { path: { note_id: noteId }, body: { text, mentions } })
}

export async function removeNote(noteId: string): Promise<void> {
  await api.delete('/notes/{note_id}', { path: { note_id: noteId } })
}

/** The newest of how a conversation went from hand to hand. */
export async function listTransfers(id: string, signal: AbortSignal): Promise<Transfer[]> {
  const query = { limit: MOST_OF_A_PAGE }
  const path = one(id)
  return (await api.get('/conversations/{conversation_id}/transfers', { path, query, signal })).items
}

/** Refused when somebody else changed the owner since this version was read. */
export async function changeOwner(
  { id, owner_version }: Conversation,
  action: OwnershipAction,
): Promise<Conversation> {
  if (action === 'take-over') takesHere(id)
  try {
    const body = { owner_version }
    return await api.post(`/conversations/{conversation_id}/${action}`, { path: one(id), body })
  } catch (error) {
    takesNot(id)
    throw error
  }
}

/** A repeat under the same key has no second effect. */
export async function sendReply(id: string, { key, text, attachments, seen }: Reply): Promise<Message> {
  const said = text === '' ? [] : [{ type: 'text' as const, text }]
  const segments = [...said, ...attachments.map(segmentOf)]
  const message = await api.post('/conversations/{conversation_id}/messages', {
    path: one(id),
    body: { segments, seen_number: seen },
    idempotencyKey: key,
  })
  return message as Message
}

export function getDelivery(id: string, signal: AbortSignal): Promise<DeliveryLog> {
  return api.get('/deliveries/{delivery_id}', { path: { delivery_id: id }, signal })
}

/** The delivery of a message, with every attempt; null once it is too old to be found. */
export async function findDelivery(
  { id, delivery }: Message,
  conversationId: string,
  signal: AbortSignal,
): Promise<DeliveryLog | null> {
  const state = delivery?.state as Schemas['DeliveryState'] | undefined
  // Those in its state are fewer; but it may have left that meanwhile.
  const found = await findId(id, conversationId, state, signal) ?? await findId(id, conversationId, undefined, signal)
  return found === null ? null : getDelivery(found, signal)
}

async function findId(
  messageId: string,
  conversationId: string,
  state: Schemas['DeliveryState'] | undefined,
  signal: AbortSignal,
): Promise<string | null> {
  let cursor: string | null = null
  for (let page = 0; page < MAX_PAGES; page += 1) {
    const query = { conversation_id: conversationId, state, cursor, limit: 100 }
    const found: Schemas['Page_DeliveryEntryOut_'] = await api.get('/deliveries', { query, signal })
    const entry = found.items.find(({ message_id: of }) => of === messageId)
    if (entry) return entry.id
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

/** Those that fit what was typed; everybody's and one's own. */
export async function listCanned(text: string, limit: number, signal: AbortSignal): Promise<CannedReply[]> {
  const query = { text: text || null, limit }
  return (await api.get('/canned-replies', { query, signal })).items
}

export async function countCannedUse(replyId: string): Promise<void> {
  await api.post('/canned-replies/{reply_id}/use', { path: { reply_id: replyId } })
}

/** What the bot did, newest first. */
export async function listTurns(id: string, cursor: string | null, signal: AbortSignal): Promise<Page<Turn>> {
  const { items, next } = await api.get('/conversations/{conversation_id}/turns', { path: one(id), query: { cursor, limit: 50 }, signal })
  return { items: items.map((turn) => ({ ...turn, id: String(turn.number) })), next: next ?? null }
}

/** What a model would reply; nothing is sent. */
export async function suggest(id: string): Promise<string[]> {
  return (await api.post('/conversations/{conversation_id}/suggestions', { path: one(id) })).items
}

export async function summarise(id: string): Promise<string> {
  return (await api.post('/conversations/{conversation_id}/summary', { path: one(id) })).text
}
