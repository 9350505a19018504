/** The settings of sign-on while they are edited; pure. */

import type { SignOnIn, SignOnSettings } from './api'

export const FIRST = ['invited', 'member', 'viewer'] as const

export interface Draft {
  issuer: string
  clientId: string
  /** Empty: stays as it is; it is never shown. */
  secret: string
  /** One a line, or with commas. */
  domains: string
  first: string
  required: boolean
}

export type DraftProblem = 'issuer' | 'client' | 'secret' | 'domains'

const MAX_DOMAINS = 20
const DOMAIN = /^[a-z0-9-]+(\.[a-z0-9-]+)+$/
const ISSUER = /^https?:\/\/[^?#\s]+$/

export function draftFrom(settings: SignOnSettings | null): Draft {
  return {
    issuer: settings?.issuer ?? '',
    clientId: settings?.client_id ?? '',
    secret: '',
    domains: (settings?.domains ?? []).join('\n'),
    first: settings?.first_sign_on ?? 'invited',
    required: settings?.required ?? false,
  }
}

export function domainsOf({ domains }: Draft): string[] {
  const named = domains.toLowerCase().split(/[\s,，;；]+/)
  return [...new Set(named.map((domain) => domain.replace(/^@/, '')).filter(Boolean))]
}

/** Another provider or client is never given the secret of the one before. */
export function needsSecret(draft: Draft, kept: SignOnSettings | null): boolean {
  return draft.issuer.trim() !== kept?.issuer || draft.clientId.trim() !== kept.client_id
}

export function problemsOf(draft: Draft, kept: SignOnSettings | null): DraftProblem[] {
  const domains = domainsOf(draft)
  const areDomains = domains.length > 0 && domains.length <= MAX_DOMAINS && domains.every((domain) => DOMAIN.test(domain))
  const checks: [DraftProblem, boolean][] = [
    ['issuer', isIssuer(draft.issuer)],
    ['client', draft.clientId.trim() !== ''],
    ['secret', draft.secret !== '' || !needsSecret(draft, kept)],
    ['domains', areDomains],
  ]
  return checks.filter(([, isFine]) => !isFine).map(([problem]) => problem)
}

export function isIssuer(issuer: string): boolean {
  return ISSUER.test(issuer.trim())
}

export function settingsFrom(draft: Draft): SignOnIn {
  return {
    issuer: draft.issuer.trim(),
    client_id: draft.clientId.trim(),
    client_secret: draft.secret || null,
    domains: domainsOf(draft),
    first_sign_on: FIRST.find((choice) => choice === draft.first) ?? 'invited',
    required: draft.required,
  }
}
