/** The tenant's own systems that are told what happens. */

import { api } from '../../api/api'
import type { Schemas } from '../../api/paths'
import type { Page } from '../../api/types'

export type Webhook = Schemas['WebhookOut']
export type WebhookMade = Schemas['WebhookMade']
export type WebhookMessage = Schemas['WebhookMessageOut']
export type MessageState = WebhookMessage['state']
export type EventKind = Schemas['EventOut']
export type EventName = Schemas['WebhookIn']['events'][number]
export type TestResult = Schemas['TestOut']
export type Replayed = Schemas['ReplayOut']

export function listWebhooks(cursor: string | null, signal: AbortSignal): Promise<Page<Webhook>> {
  return api.get('/webhooks', { query: { cursor }, signal })
}

export function getWebhook(id: string, signal: AbortSignal): Promise<Webhook> {
  return api.get('/webhooks/{webhook_id}', { path: { webhook_id: id }, signal })
}

export function listEventKinds(signal: AbortSignal): Promise<EventKind[]> {
  return api.get('/webhook-events', { signal })
}

export interface Wanted {
  url: string
  description: string
  events: EventName[]
}

export function addWebhook(wanted: Wanted, idempotencyKey: string): Promise<WebhookMade> {
  return api.post('/webhooks', { body: wanted, idempotencyKey })
}

export async function changeWebhook(id: string, change: Partial<Wanted> & { enabled?: boolean }): Promise<void> {
  await api.patch('/webhooks/{webhook_id}', { path: { webhook_id: id }, body: change })
}

export async function deleteWebhook(id: string): Promise<void> {
  await api.delete('/webhooks/{webhook_id}', { path: { webhook_id: id } })
}

export function rotateSecret(id: string, idempotencyKey: string): Promise<WebhookMade> {
  return api.post('/webhooks/{webhook_id}/secret', { path: { webhook_id: id }, idempotencyKey })
}

export function testWebhook(id: string): Promise<TestResult> {
  return api.post('/webhooks/{webhook_id}/test', { path: { webhook_id: id } })
}

export function listMessages(
  id: string,
  state: MessageState | null,
  cursor: string | null,
  signal: AbortSignal,
): Promise<Page<WebhookMessage>> {
  return api.get('/webhooks/{webhook_id}/messages', { path: { webhook_id: id }, query: { state, cursor }, signal })
}

export function replayMessage(id: string, messageId: string): Promise<WebhookMessage> {
  return api.post('/webhooks/{webhook_id}/messages/{message_id}/replay', {
    path: { webhook_id: id, message_id: messageId },
  })
}

/** At most 1,000 at once, the oldest first. */
export function replaySince(id: string, since: string): Promise<Replayed> {
  return api.post('/webhooks/{webhook_id}/replay', { path: { webhook_id: id }, body: { since } })
}
