/**
 * Replies that the server has not confirmed, kept in the browser of whoever wrote them until they
 * sign out. Each has a key of its own, so that two tabs never overwrite each other's.
 */

import { ApiError } from '../../api/problem'
import { keysOf, UNSENT_PREFIX } from '../../drafts'
import type { Attachment } from './attachment'
import type { Reply } from './outbox'

/** The oldest give way; those live as long as their page. */
const MAX_KEPT = 100
/**
 * A reply that is this young goes out by itself after a reload. What was written longer ago may not
 * fit any more: its author decides.
 */
export const BY_ITSELF_MS = 10 * 60_000
/** The server knows a key for two days. After that a repeat could arrive twice, and is not offered. */
export const REPEATABLE_MS = 47 * 3_600_000

export interface Unsent {
  /** Oldest first. */
  read: () => Reply[]
  keep: (reply: Reply) => void
  drop: (key: string) => void
}

/** Of one member in one conversation. */
export function unsentIn(store: Storage, member: string, conversation: string, now: () => number): Unsent {
  const prefix = `${UNSENT_PREFIX}${member}.${conversation}.`

  function keep(reply: Reply): void {
    const { key, error, ...rest } = reply
    const failure = error && { status: error.status, code: error.code, detail: error.detail }
    try {
      store.setItem(prefix + key, JSON.stringify({ ...rest, error: failure }))
      const oldest = keysOf(store, UNSENT_PREFIX).toSorted((one, other) => at(store, one) - at(store, other))
      for (const each of oldest.slice(0, Math.max(0, oldest.length - MAX_KEPT))) store.removeItem(each)
    } catch {
      // The store is full or forbidden: the reply lives as long as the page.
    }
  }

  function read(): Reply[] {
    return keysOf(store, prefix)
      .flatMap((key) => replyOf(key.slice(prefix.length), store.getItem(key), now()) ?? [])
      .toSorted((one, other) => Date.parse(one.at) - Date.parse(other.at))
  }

  return {
    read,
    keep,
    drop: (key) => {
      store.removeItem(prefix + key)
    },
  }
}

/** The conversations in which a member left something unsent. */
export function conversationsIn(store: Storage, member: string): string[] {
  const prefix = `${UNSENT_PREFIX}${member}.`
  return [...new Set(keysOf(store, prefix).map((key) => key.slice(prefix.length).split('.')[0] ?? ''))]
}

/** What a browser's store has told about one of these: which reply is gone, in which conversation. */
export function goneOf(member: string, key: string | null): { conversation: string; reply: string } | null {
  const prefix = `${UNSENT_PREFIX}${member}.`
  if (!key?.startsWith(prefix)) return null
  const [conversation = '', reply = ''] = key.slice(prefix.length).split('.')
  return { conversation, reply }
}

function at(store: Storage, key: string): number {
  return Date.parse(String(parsed(store.getItem(key))?.at))
}

/** As it stood, or as its author has to decide; what cannot be read is nothing. */
function replyOf(key: string, written: string | null, now: number): Reply | null {
  const kept = parsed(written)
  if (typeof kept?.text !== 'string' || typeof kept.at !== 'string') return null
  const age = now - Date.parse(kept.at)
  const reply: Reply = {
    key,
    text: kept.text,
    attachments: Array.isArray(kept.attachments) ? (kept.attachments as Attachment[]) : [],
    at: kept.at,
    seen: typeof kept.seen === 'number' ? kept.seen : null,
    state: age <= BY_ITSELF_MS ? 'unknown' : age <= REPEATABLE_MS ? 'held' : 'stranded',
    error: null,
  }
  return kept.state === 'refused' ? { ...reply, state: 'refused', error: errorOf(kept.error) } : reply
}

function errorOf(kept: unknown): ApiError | null {
  const { status, code, detail } = (kept ?? {}) as Partial<Record<string, unknown>>
  return typeof status === 'number' ? new ApiError(status, String(code), String(detail)) : null
}

function parsed(written: string | null): Partial<Record<string, unknown>> | null {
  try {
    const value: unknown = JSON.parse(written ?? '')
    return typeof value === 'object' ? value : null
  } catch {
    return null
  }
}
