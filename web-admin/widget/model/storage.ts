/**
 * One conversation in this browser's localStorage, per channel token. Every unconfirmed message has
 * a key of its own, so that two tabs never overwrite each other's; the transcript and the position
 * it reaches are one value, so that they always agree.
 */

import { emptyConversation, MAX_OUTBOX_MESSAGES } from './conversation'
import type { Conversation, Outgoing, Shown } from './conversation'
import { parseMessage } from './protocol'

/** Messages shown at once after a reload; at 4,000 characters each still well below the quota. */
const MAX_STORED_MESSAGES = 100

export interface ConversationStorage {
  load(): Conversation
  save(previous: Conversation, next: Conversation): void
}

/** `area` is null where the browser forbids storage; the page then remembers only by itself. */
export function conversationStorage(area: Storage | null, token: string): ConversationStorage {
  const prefix = `botyard.webchat.${token}.`
  const outPrefix = `${prefix}out.`
  return {
    load: () => (area ? (attempt(() => load(area, prefix, outPrefix)) ?? emptyConversation) : emptyConversation),
    save(previous, next) {
      if (!area) return
      // A full storage must not stop the conversation.
      attempt(() => {
        saveOutbox(area, outPrefix, previous.outbox, next.outbox)
      })
      attempt(() => {
        saveTranscript(area, prefix, previous, next)
      })
    },
  }
}

/** Touching localStorage throws where third-party storage is blocked. */
export function browserStorage(): Storage | null {
  return attempt(() => window.localStorage)
}

function load(area: Storage, prefix: string, outPrefix: string): Conversation {
  const visitor = area.getItem(`${prefix}visitor`)
  const outbox = loadOutbox(area, outPrefix)
  const answered = area.getItem(`${prefix}answered`)
  const transcript = readJson(area, `${prefix}transcript`)
  if (visitor === null || !Array.isArray(transcript?.messages)) {
    return { ...emptyConversation, visitor, answered, outbox }
  }
  const messages = transcript.messages.map(readShown).filter((message) => message !== null)
  const lastId = typeof transcript.lastId === 'string' ? transcript.lastId : null
  return { ...emptyConversation, visitor, answered, outbox, messages, lastId }
}

function readShown(value: unknown): Shown | null {
  const message = parseMessage(value)
  return message && { ...message, provisional: (value as Partial<Shown>).provisional === true }
}

function loadOutbox(area: Storage, outPrefix: string): Outgoing[] {
  const keys = Array.from({ length: area.length }, (_, index) => area.key(index))
  return keys
    .filter((key) => key !== null)
    .filter((key) => key.startsWith(outPrefix))
    .map((key) => readOutgoing(key.slice(outPrefix.length), readJson(area, key)))
    .filter((outgoing) => outgoing !== null)
    .sort((one, other) => one.at.localeCompare(other.at))
    .slice(0, MAX_OUTBOX_MESSAGES)
}

function readOutgoing(id: string, value: Record<string, unknown> | null): Outgoing | null {
  if (typeof value?.text !== 'string' || typeof value.at !== 'string') return null
  const refusal = value.refusal as Outgoing['refusal'] | undefined
  const picture = (value.picture as Outgoing['picture'] | undefined) ?? null
  // The bytes of a picture live in the page alone; those that were not stored went with it.
  const lost = picture && picture.mediaId === null ? { code: 'picture_lost', detail: '' } : null
  return { id, text: value.text, picture, at: value.at, refusal: refusal ?? lost }
}

function saveOutbox(area: Storage, outPrefix: string, previous: Outgoing[], next: Outgoing[]): void {
  if (previous === next) return
  const kept = new Set(next.map(({ id }) => id))
  for (const { id } of previous) if (!kept.has(id)) area.removeItem(outPrefix + id)
  for (const outgoing of next) {
    if (previous.includes(outgoing)) continue
    const { id, ...value } = outgoing
    area.setItem(outPrefix + id, JSON.stringify(value))
  }
}

function saveTranscript(area: Storage, prefix: string, previous: Conversation, next: Conversation): void {
  if (next.visitor !== null && next.visitor !== previous.visitor) {
    area.setItem(`${prefix}visitor`, next.visitor)
  }
  if (next.answered !== null && next.answered !== previous.answered) {
    area.setItem(`${prefix}answered`, next.answered)
  }
  if (next.messages === previous.messages) return
  const messages = next.messages
    .slice(-MAX_STORED_MESSAGES)
    .map(({ clientId, ...message }) => ({ ...message, client_id: clientId }))
  area.setItem(`${prefix}transcript`, JSON.stringify({ lastId: next.lastId, messages }))
}

function readJson(area: Storage, key: string): Record<string, unknown> | null {
  const text = area.getItem(key)
  return text === null ? null : attempt(() => JSON.parse(text) as Record<string, unknown>)
}

function attempt<T>(action: () => T): T | null {
  try {
    return action()
  } catch {
    return null
  }
}
