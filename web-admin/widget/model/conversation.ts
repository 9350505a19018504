/**
 * What the visitor sees, as a pure function of what happened. `messages` holds the server's order,
 * `outbox` what the server has not confirmed yet. Nothing is shown twice: messages are known by the
 * server's id, the visitor's own also by the id that this browser gave them.
 */

import type { Heading, Message, Owner, Question, Segment, ServerFrame } from './protocol'

/** Unsent messages kept at most; then the composer asks to wait, nothing is dropped. */
export const MAX_OUTBOX_MESSAGES = 100
/** Messages kept in the page at most; older ones leave the top. */
export const MAX_MESSAGES = 500

export interface Refusal {
  code: string
  detail: string
}

/** A picture on its way; `mediaId` is there once its bytes are stored. */
export interface OutgoingPicture {
  name: string
  size: number
  mediaId: string | null
}

export interface Outgoing {
  id: string
  text: string
  picture: OutgoingPicture | null
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
  /** How it was, while that is asked here. */
  question: Question | null
  /** The last question that was answered, or waved away: it is asked once. */
  answered: string | null
  problem: Refusal | null
}

export type ConversationEvent =
  | { type: 'frame'; frame: ServerFrame }
  | { type: 'composed'; outgoing: Outgoing }
  | { type: 'stored'; id: string; mediaId: string }
  | { type: 'refused'; id: string; refusal: Refusal }
  | { type: 'discarded'; id: string }
  | { type: 'waved' }

export const emptyConversation: Conversation = {
  visitor: null,
  lastId: null,
  messages: [],
  outbox: [],
  owner: { kind: 'bot', name: null },
  heading: { title: null, greeting: null, accent: null },
  question: null,
  answered: null,
  problem: null,
}

export function reduce(state: Conversation, event: ConversationEvent): Conversation {
  switch (event.type) {
    case 'frame':
      return onFrame(state, event.frame)
    case 'composed':
      // Whatever comes next is taken for the answer, or ends the question.
      return isFull(state) ? state : { ...waved(state), outbox: [...state.outbox, event.outgoing] }
    case 'stored':
      return changed(state, event.id, (outgoing) => ({
        ...outgoing,
        picture: outgoing.picture && { ...outgoing.picture, mediaId: event.mediaId },
      }))
    case 'refused':
      return changed(state, event.id, (outgoing) => ({ ...outgoing, refusal: event.refusal }))
    case 'discarded':
      return { ...state, outbox: without(state.outbox, event.id) }
    case 'waved':
      return waved(state)
  }
}

function waved(state: Conversation): Conversation {
  return state.question ? { ...state, question: null, answered: state.question.id } : state
}

/** What to send, oldest first, whenever the server has welcomed us. */
export function unsent(state: Conversation): Outgoing[] {
  return state.outbox.filter((outgoing) => outgoing.refusal === null)
}

/** What can be sent now: nothing overtakes a picture whose bytes are not stored yet. */
export function ready(state: Conversation): { messages: Outgoing[]; picture: Outgoing | null } {
  const messages = unsent(state)
  const first = messages.findIndex(({ picture }) => picture !== null && picture.mediaId === null)
  if (first < 0) return { messages, picture: null }
  return { messages: messages.slice(0, first), picture: messages[first] ?? null }
}

export function isFull(state: Conversation): boolean {
  return state.outbox.length >= MAX_OUTBOX_MESSAGES
}

function onFrame(state: Conversation, frame: ServerFrame): Conversation {
  switch (frame.type) {
    case 'welcome': {
      const kept = frame.reset ? { ...state, messages: [], lastId: null } : state
      const welcomed = { ...kept, visitor: frame.visitor, heading: frame.heading, question: null, problem: null }
      return frame.messages.reduce(received, welcomed)
    }
    case 'message':
      return received(state, frame.message)
    case 'ack':
      return acknowledged(state, frame.id, frame.messageId)
    case 'state':
      return { ...state, owner: { kind: frame.owner, name: frame.name } }
    case 'question':
      return { ...state, question: frame.question?.id === state.answered ? null : frame.question }
    case 'service':
    case 'upload':
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
    segments: segmentsOf(outgoing),
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
  return changed(state, id, (outgoing) => ({ ...outgoing, refusal: { code, detail } }))
}

function segmentsOf({ text, picture }: Outgoing): Segment[] {
  const image = { type: 'image', text: null, picture: picture?.mediaId ?? null }
  const words = { type: 'text', text, picture: null }
  return [...(picture ? [image] : []), ...(text ? [words] : [])]
}

function changed(
  state: Conversation,
  id: string,
  change: (outgoing: Outgoing) => Outgoing,
): Conversation {
  const outbox = state.outbox.map((outgoing) => (outgoing.id === id ? change(outgoing) : outgoing))
  return { ...state, outbox }
}

function isSame(one: Message, other: Message): boolean {
  return one.id === other.id || (one.clientId !== null && one.clientId === other.clientId)
}

function without(outbox: Outgoing[], id: string): Outgoing[] {
  return outbox.filter((outgoing) => outgoing.id !== id)
}
