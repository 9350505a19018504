/** Who works for the tenant, in which role, and who was asked to. */

import { api } from '../../api/api'
import type { Schemas } from '../../api/paths'
import type { Page } from '../../api/types'

export type Member = Schemas['MemberOut']
export type Invitation = Schemas['InvitationOut']
export type Invited = Schemas['InvitedOut']
export type Role = Schemas['RoleOut']
export type TenantPermission = Schemas['RoleIn']['permissions'][number]

/** The roles that every tenant has; others are the tenant's own, named by their ids. */
export const ROLES = ['owner', 'admin', 'member', 'viewer'] as const

/** A tenant's own roles, which are few. */
const ALL = 200

export function listMembers(cursor: string | null, signal: AbortSignal): Promise<Page<Member>> {
  return api.get('/members', { query: { cursor }, signal })
}

export async function changeMember(id: string, role: string): Promise<void> {
  await api.patch('/members/{member_id}', { path: { member_id: id }, body: { role } })
}

export async function removeMember(id: string): Promise<void> {
  await api.delete('/members/{member_id}', { path: { member_id: id } })
}

export function listInvitations(cursor: string | null, signal: AbortSignal): Promise<Page<Invitation>> {
  return api.get('/invitations', { query: { cursor }, signal })
}

export function invite(email: string, role: string, idempotencyKey: string): Promise<Invited> {
  return api.post('/invitations', { body: { email, role }, idempotencyKey })
}

export async function withdrawInvitation(id: string): Promise<void> {
  await api.delete('/invitations/{invitation_id}', { path: { invitation_id: id } })
}

export async function listRoles(signal: AbortSignal): Promise<Role[]> {
  return (await api.get('/roles', { query: { limit: ALL }, signal })).items
}

export async function saveRole(id: string | null, role: { name: string; permissions: TenantPermission[] }): Promise<void> {
  if (id === null) await api.post('/roles', { body: role })
  else await api.patch('/roles/{role_id}', { path: { role_id: id }, body: role })
}

export async function removeRole(id: string): Promise<void> {
  await api.delete('/roles/{role_id}', { path: { role_id: id } })
}
