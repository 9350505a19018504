import type { RouteRecordRaw } from 'vue-router'

export const webhooksRoutes: RouteRecordRaw[] = [
  {
    path: 'webhooks',
    name: 'webhooks',
    component: () => import('./WebhooksPage.vue'),
    meta: {
      audience: 'member',
      permission: 'webhooks.read',
      nav: { group: 'company', order: 30, label: 'nav.webhooks' },
    },
  },
  {
    path: 'webhooks/:webhookId',
    name: 'webhook',
    component: () => import('./WebhookPage.vue'),
    props: true,
    meta: { audience: 'member', permission: 'webhooks.read', under: 'webhooks' },
  },
]
