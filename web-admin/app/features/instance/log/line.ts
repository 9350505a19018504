/** One line of an agent's log, made readable: its time in the reader's zone, then what it says. */

export const LEVELS = ['debug', 'info', 'warning', 'error'] as const
export type Level = (typeof LEVELS)[number]

export interface Line {
  text: string
  /** Its place in LEVELS. */
  level: number
}

interface Told {
  timestamp?: unknown
  level?: unknown
  message?: unknown
  traceId?: unknown
  data?: unknown
}

const INFO = LEVELS.indexOf('info')
const ERROR = LEVELS.indexOf('error')

/** `before` is the level of the line above: what is no line of its own, such as a traceback, shares it. */
export function readLine(raw: string, before = INFO): Line {
  const told = parse(raw)
  if (!told) return { text: raw, level: before }
  const level = levelOf(String(told.level))
  const data = told.data && Object.keys(told.data).length > 0 ? JSON.stringify(told.data) : ''
  const trace = typeof told.traceId === 'string' && told.traceId !== '' ? `trace=${told.traceId}` : ''
  const parts = [momentOf(told.timestamp), String(told.level).toUpperCase(), String(told.message ?? ''), data, trace]
  return { text: parts.filter(Boolean).join(' '), level }
}

function parse(raw: string): Told | null {
  if (!raw.startsWith('{')) return null
  try {
    const told = JSON.parse(raw) as Told
    return told.level === undefined ? null : told
  } catch {
    return null
  }
}

function levelOf(name: string): number {
  const level = (LEVELS as readonly string[]).indexOf(name)
  return level === -1 ? ERROR : level
}

function momentOf(timestamp: unknown): string {
  const at = new Date(String(timestamp))
  if (Number.isNaN(at.getTime())) return ''
  const two = (value: number) => String(value).padStart(2, '0')
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`
  const second = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`
  return `${day} ${second}.${String(at.getMilliseconds()).padStart(3, '0')}`
}
