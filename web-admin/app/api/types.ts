/** The shapes of the API that the dashboard reads, as the control plane writes them. */

export interface Page<T> {
  items: T[]
  next: string | null
}

export interface AccessToken {
  access_token: string
  expires_in: number
  token_type: string
}

export interface Membership {
  tenant_id: string
  tenant_name: string
  role: string
}

export interface Me {
  identity: { id: string; email: string; operator: boolean }
  memberships: Membership[]
  tenant_id: string | null
  permissions: string[]
}

export interface Tenant {
  id: string
  name: string
  state: string
  created_at: string
}

export interface Condition {
  type: string
  status: boolean
  reason: string
  message: string
  at: string
}

export interface Instance {
  id: string
  name: string
  desired: string
  phase: string
  conditions: Condition[]
  generation: number
  observed_generation: number
}

export interface Channel {
  id: string
  kind: string
  name: string
  state: string
  state_reason: string | null
  /** When nobody heard it and its platform does not deliver again, newest first. */
  gaps: { from_at: string; to_at: string; text: string; text_zh: string }[]
  callback_url: string | null
  webchat_url: string | null
}

export type Owner = 'bot' | 'waiting' | 'human' | 'closed'

export interface Conversation {
  id: string
  channel_id: string
  contact: { id: string; name: string | null }
  owner: Owner
  owner_member_id: string | null
  owner_version: number
  waiting_reason: string | null
  last_number: number
  last_message_at: string
  preview: string
}

export interface Segment {
  type: string
  text?: string | null
}

export interface Delivery {
  state: string
  error_class: string | null
  attempts: number
}

export interface Message {
  id: string
  number: number
  sender: { kind: string; id: string | null; name: string | null }
  segments: Segment[]
  created_at: string
  delivery: Delivery | null
}

export interface Answer {
  question: string
  answer: string
}
