import type { Conversation, Message } from '../../api/types'

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
