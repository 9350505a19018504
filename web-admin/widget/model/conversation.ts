/**
 * What the visitor sees, as a pure function of what happened. `messages` holds the server's order,
 * `outbox` what the server has not confirmed yet. Nothing is shown twice: messages are known by the
 * server's id, the visitor's own also by the id that this browser gave them.
 */

import type { Heading, Message, Owner, ServerFrame } from './protocol'

/** Unsent messages kept at most; then the composer asks to wait, nothing is dropped. */
export const MAX_OUTBOX_MESSAGES = 100
/** Messages kept in the page at most; older ones leave the top. */
export const MAX_MESSAGES = 500

export interface Refusal {
  code: string
  detail: string
}

export interface Outgoing {
  id: string
  text: string
  at: string
  refusal: Refusal | null
}

/**
 * `provisional`: acknowledged, but its place in the server's order was not told. A server may leave
 * out what the same page wrote, so it can stay that way.
 */
export type Shown = Message & { provisional: boolean }

export interface Conversation {
  visitor: string | null
  /** The last message received in the server's order: where a resume continues. */
  lastId: string | null
  messages: Shown[]
  outbox: Outgoing[]
  owner: { kind: Owner; name: string | null }
  heading: Heading
  problem: Refusal | null
}

export type ConversationEvent =
  | { type: 'frame'; frame: ServerFrame }
  | { type: 'composed'; outgoing: Outgoing }
  | { type: 'discarded'; id: string }

export const emptyConversation: Conversation = {
  visitor: null,
  lastId: null,
  messages: [],
  outbox: [],
  owner: { kind: 'bot', name: null },
  heading: { title: null, greeting: null },
  problem: null,
}

export function reduce(state: Conversation, event: ConversationEvent): Conversation {
  switch (event.type) {
    case 'frame':
      return onFrame(state, event.frame)
    case 'composed':
      return isFull(state) ? state : { ...state, outbox: [...state.outbox, event.outgoing] }
    case 'discarded':
      return { ...state, outbox: without(state.outbox, event.id) }
  }
}

/** What to send, oldest first, whenever the server has welcomed us. */
export function unsent(state: Conversation): Outgoing[] {
  return state.outbox.filter((outgoing) => outgoing.refusal === null)
}

export function isFull(state: Conversation): boolean {
  return state.outbox.length >= MAX_OUTBOX_MESSAGES
}

function onFrame(state: Conversation, frame: ServerFrame): Conversation {
  switch (frame.type) {
    case 'welcome': {
      const kept = frame.reset ? { ...state, messages: [], lastId: null } : state
      const welcomed = { ...kept, visitor: frame.visitor, heading: frame.heading, problem: null }
      return frame.messages.reduce(received, welcomed)
    }
    case 'message':
      return received(state, frame.message)
    case 'ack':
      return acknowledged(state, frame.id, frame.messageId)
    case 'state':
      return { ...state, owner: { kind: frame.owner, name: frame.name } }
    case 'service':
      return state
    case 'error':
      return refused(state, frame)
  }
}

function received(state: Conversation, message: Message): Conversation {
  const known = state.messages.find((shown) => isSame(shown, message))
  if (known && !known.provisional) return state
  const others = known ? state.messages.filter((shown) => shown !== known) : state.messages
  return {
    ...state,
    lastId: message.id,
    messages: [...others, { ...message, provisional: false }].slice(-MAX_MESSAGES),
    outbox: message.clientId === null ? state.outbox : without(state.outbox, message.clientId),
    problem: null,
  }
}

function acknowledged(state: Conversation, id: string, messageId: string): Conversation {
  const outgoing = state.outbox.find((candidate) => candidate.id === id)
  if (!outgoing) return state
  const message: Shown = {
    id: messageId,
    sender: { kind: 'visitor', name: null },
    segments: [{ type: 'text', text: outgoing.text }],
    at: outgoing.at,
    clientId: id,
    provisional: true,
  }
  return {
    ...state,
    messages: [...state.messages, message].slice(-MAX_MESSAGES),
    outbox: without(state.outbox, id),
  }
}

function refused(
  state: Conversation,
  { code, detail, id }: Refusal & { id: string | null },
): Conversation {
  if (id === null) return { ...state, problem: { code, detail } }
  // Not taken yet, and not refused either: it is sent again.
  if (code === 'rate_limited') return state
  return {
    ...state,
    outbox: state.outbox.map((outgoing) =>
      outgoing.id === id ? { ...outgoing, refusal: { code, detail } } : outgoing,
    ),
  }
}

function isSame(one: Message, other: Message): boolean {
  return one.id === other.id || (one.clientId !== null && one.clientId === other.clientId)
}

function without(outbox: Outgoing[], id: string): Outgoing[] {
  return outbox.filter((outgoing) => outgoing.id !== id)
}
