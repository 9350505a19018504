/** Ways in for people who have no sign-in yet, or have lost it. */

import { api } from '../../api/api'

export async function register(company: string, email: string, password: string): Promise<'pending' | 'active'> {
  return (await api.post('/auth/register', { body: { company, email, password } })).state
}

export async function acceptInvitation(token: string, password: string, name: string): Promise<void> {
  await api.post('/invitations/accept', { body: { token, password, name: name || null } })
}

export async function requestReset(email: string): Promise<void> {
  await api.post('/auth/reset/request', { body: { email } })
}

export async function resetPassword(token: string, password: string): Promise<void> {
  await api.post('/auth/reset', { body: { token, new: password } })
}

/** What a link carries behind the #, which browsers send to nobody. */
export function tokenIn(hash: string): string {
  return hash.replace(/^#/, '')
}
