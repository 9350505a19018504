import type { Conversation, Message } from '../../api/types'
import type { Note, Transfer } from './thread'

/** A conversation with a bot, except for what is given. */
export function conversation(given: Partial<Conversation> = {}): Conversation {
  return {
    id: 'c',
    instance_id: 'i',
    channel_id: 'ch',
    channel_kind: 'webchat',
    contact: { id: 'p', name: null, remark: null, blocked: false },
    owner: 'bot',
    owner_member_id: null,
    owner_name: null,
    owner_version: 1,
    waiting_reason: null,
    waiting_since: null,
    last_number: 1,
    seen_number: 0,
    unread: 1,
    mentioned: false,
    tags: [],
    last_message_at: '2026-11-22T12:00:00Z',
    preview: '',
    created_at: '2026-11-22T12:00:00Z',
    ...given,
  }
}

/** A contact's message, except for what is given. */
export function message(number: number, given: Partial<Message> = {}): Message {
  return {
    id: `m${number}`,
    number,
    sender: { kind: 'contact', id: null, name: null },
    segments: [{ type: 'text', text: `text ${number}` }],
    occurred_at: '2026-11-22T12:00:00Z',
    created_at: '2026-11-22T12:00:00Z',
    delivery: null,
    ...given,
  }
}

/** A colleague's note behind a message, except for what is given. */
export function note(id: string, after_number: number, given: Partial<Note> = {}): Note {
  return {
    id,
    contact_id: 'p',
    conversation_id: 'c',
    after_number,
    author: { id: 'other', name: 'Li' },
    text: `note ${id}`,
    mentions: [],
    created_at: '2026-11-22T12:00:00Z',
    edited_at: null,
    ...given,
  }
}

/** A hand-over behind a message, except for what is given. */
export function transfer(id: string, number: number, given: Partial<Transfer> = {}): Transfer {
  return {
    id,
    conversation_id: 'c',
    number,
    from_member_id: null,
    by_member_id: 'other',
    to_member_id: 'me',
    skill: null,
    note: '',
    created_at: '2026-11-22T12:00:00Z',
    ...given,
  }
}
