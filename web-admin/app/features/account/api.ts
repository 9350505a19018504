/** One's own account: the password, the second factor, and where one is signed in. */

import { api } from '../../api/api'
import type { Schemas } from '../../api/paths'

export type SignIn = Schemas['SessionOut']
export type FactorBegun = Schemas['TotpBegunOut']

/** What proves that somebody has the second factor. */
export type Proof = { code: string } | { recovery_code: string }

/** All other sign-ins end. */
export async function changePassword(old: string, fresh: string): Promise<void> {
  await api.post('/auth/password', { body: { old, new: fresh } })
}

export function beginFactor(): Promise<FactorBegun> {
  return api.post('/auth/totp/begin')
}

export async function confirmFactor(code: string): Promise<string[]> {
  return (await api.post('/auth/totp/confirm', { body: { code } })).recovery_codes
}

export async function endFactor(password: string, proof: Proof): Promise<void> {
  await api.delete('/auth/totp', { body: { password, ...proof } })
}

export async function listSignIns(signal: AbortSignal): Promise<SignIn[]> {
  return (await api.get('/auth/sessions', { signal })).items
}

export async function endSignIn(id: string): Promise<void> {
  await api.delete('/auth/sessions/{session_id}', { path: { session_id: id } })
}

export async function endOtherSignIns(): Promise<void> {
  await api.delete('/auth/sessions')
}
