/**
 * Frames of the visitor's socket. What the server sends is checked here, once, so that everything
 * behind this module works with known shapes. Messages of one socket come in conversation order.
 */

/** The server refuses longer messages. */
export const MAX_TEXT_CHARACTERS = 4_000
/** The server refuses larger pictures. */
export const MAX_PICTURE_BYTES = 10 * 1024 * 1024

export type SenderKind = 'bot' | 'human' | 'system' | 'visitor'
export type Owner = 'bot' | 'waiting' | 'human' | 'closed'

/** `picture` is the media id of an image. */
export interface Segment {
  type: string
  text: string | null
  picture: string | null
}

export interface Message {
  id: string
  sender: { kind: SenderKind; name: string | null }
  segments: Segment[]
  at: string
  clientId: string | null
}

/** The channel's own words and colour; null where the tenant has chosen none. */
export interface Heading {
  title: string | null
  greeting: string | null
  accent: string | null
}

/** How it was: asked behind an end, to be answered until then. */
export interface Question {
  id: string
  until: string
}

export type ServerFrame =
  | { type: 'welcome'; visitor: string; messages: Message[]; reset: boolean; heading: Heading }
  | { type: 'ack'; id: string; messageId: string }
  | { type: 'upload'; id: string; mediaId: string; url: string }
  | { type: 'message'; message: Message }
  | { type: 'state'; owner: Owner; name: string | null }
  | { type: 'service'; paused: boolean }
  | { type: 'question'; question: Question | null }
  | { type: 'error'; code: string; detail: string; id: string | null; retryAfterS: number | null }

export type ClientFrame =
  | { type: 'resume'; visitor: string | null; last_id: string | null }
  | { type: 'message'; id: string; text: string; picture?: string }
  | { type: 'picture'; id: string; size: number }

/** Reads one frame; null for anything we do not understand, which a newer server may send. */
export function parseFrame(data: unknown): ServerFrame | null {
  const frame = typeof data === 'string' ? parseJson(data) : null
  if (frame === null) return null
  switch (frame.type) {
    case 'welcome':
      return parseWelcome(frame)
    case 'ack':
      return isText(frame.id) && isText(frame.message_id)
        ? { type: 'ack', id: frame.id, messageId: frame.message_id }
        : null
    case 'upload':
      return isText(frame.id) && isText(frame.media_id) && isText(frame.url)
        ? { type: 'upload', id: frame.id, mediaId: frame.media_id, url: frame.url }
        : null
    case 'message': {
      const message = parseMessage(frame)
      return message && { type: 'message', message }
    }
    case 'state':
      return isOwner(frame.owner)
        ? { type: 'state', owner: frame.owner, name: textOrNull(frame.name) }
        : null
    case 'service':
      return typeof frame.paused === 'boolean' ? { type: 'service', paused: frame.paused } : null
    case 'question':
      return { type: 'question', question: isText(frame.id) && isText(frame.until) ? { id: frame.id, until: frame.until } : null }
    case 'error':
      return isText(frame.code)
        ? {
            type: 'error',
            code: frame.code,
            detail: textOrNull(frame.detail) ?? '',
            id: textOrNull(frame.id),
            retryAfterS: typeof frame.retry_after === 'number' ? frame.retry_after : null,
          }
        : null
    default:
      return null
  }
}

/** Reads one message, from the socket or from this browser's storage. */
export function parseMessage(value: unknown): Message | null {
  if (!isRecord(value) || !isText(value.id) || !isRecord(value.sender)) return null
  if (!isSenderKind(value.sender.kind) || !Array.isArray(value.segments)) return null
  return {
    id: value.id,
    sender: { kind: value.sender.kind, name: textOrNull(value.sender.name) },
    segments: value.segments.filter(isRecord).map(parseSegment),
    at: textOrNull(value.at) ?? '',
    clientId: textOrNull(value.client_id),
  }
}

/** From the server, which names a picture by `ref`, or from storage, which keeps our own form. */
function parseSegment({ type, text, ref, picture }: Record<string, unknown>): Segment {
  const id = type === 'image' && isRecord(ref) && ref.via === 'media' ? ref.id : picture
  return {
    type: textOrNull(type) ?? 'unsupported',
    text: textOrNull(text),
    picture: textOrNull(id),
  }
}

function parseWelcome(frame: Record<string, unknown>): ServerFrame | null {
  if (!isText(frame.visitor) || !Array.isArray(frame.messages)) return null
  return {
    type: 'welcome',
    visitor: frame.visitor,
    messages: frame.messages.map(parseMessage).filter((message) => message !== null),
    reset: frame.reset === true,
    heading: {
      title: textOrNull(frame.title),
      greeting: textOrNull(frame.greeting),
      accent: textOrNull(frame.accent),
    },
  }
}

function parseJson(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text)
    return isRecord(value) ? value : null
  } catch {
    return null
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== ''
}

function textOrNull(value: unknown): string | null {
  return isText(value) ? value : null
}

function isSenderKind(value: unknown): value is SenderKind {
  return value === 'bot' || value === 'human' || value === 'system' || value === 'visitor'
}

function isOwner(value: unknown): value is Owner {
  return value === 'bot' || value === 'waiting' || value === 'human' || value === 'closed'
}
