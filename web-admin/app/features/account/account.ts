/** What somebody types about their account, and what their browsers are called; pure. */

import type { Proof } from './api'

/** Characters; the server's bounds. */
export const PASSWORD = { min: 10, max: 200 } as const

export interface Passwords {
  old: string
  fresh: string
  again: string
}

export type PasswordProblem = 'short' | 'same' | 'differs'

/** What is wrong with what was typed so far; nothing is said of what is empty. */
export function passwordProblem({ old, fresh, again }: Passwords): PasswordProblem | null {
  if (fresh === '') return null
  if (fresh.length < PASSWORD.min) return 'short'
  if (fresh === old) return 'same'
  return again !== '' && again !== fresh ? 'differs' : null
}

export function isComplete(passwords: Passwords): boolean {
  const { old, fresh, again } = passwords
  return old !== '' && fresh !== '' && again === fresh && passwordProblem(passwords) === null
}

/** Six digits are a code of the authenticator, anything longer a recovery code. */
export function proofOf(typed: string): Proof | null {
  const text = typed.replace(/\s/g, '')
  if (/^\d{6}$/.test(text)) return { code: text }
  return text.length >= 16 ? { recovery_code: text } : null
}

/** A key in groups of four, as people type it. */
export function grouped(secret: string): string {
  return secret.match(/.{1,4}/g)?.join(' ') ?? ''
}

const BROWSERS: [RegExp, string][] = [
  [/MicroMessenger\//, 'WeChat'],
  [/Edg(e|A|iOS)?\//, 'Edge'],
  [/OPR\//, 'Opera'],
  [/Firefox\/|FxiOS\//, 'Firefox'],
  [/Chrome\/|CriOS\//, 'Chrome'],
  [/Safari\//, 'Safari'],
]
const SYSTEMS: [RegExp, string][] = [
  [/iPhone|iPad/, 'iOS'],
  [/Android/, 'Android'],
  [/Windows/, 'Windows'],
  [/Mac OS X/, 'macOS'],
  [/Linux/, 'Linux'],
]
const MAX_LABEL = 60

/** The browser and its system; of others what they call themselves. */
export function deviceOf(label: string | null): string {
  const known = [BROWSERS, SYSTEMS].map((list) => list.find(([pattern]) => pattern.test(label ?? ''))?.[1])
  return known.filter(Boolean).join(' · ') || (label ?? '').slice(0, MAX_LABEL)
}
