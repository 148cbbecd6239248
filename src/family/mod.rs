//! One file per DiT family: prompt form, latent layout, schedule, guidance, decode.
