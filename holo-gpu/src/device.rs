//! The worker's device: buffers, pipelines, launches.

use std::collections::BTreeMap;
use std::sync::Arc;

use wgpu::{
    Adapter, Backends, BindGroupDescriptor, BindGroupEntry, BindGroupLayout,
    BindGroupLayoutDescriptor, BindGroupLayoutEntry, BindingType, Buffer, BufferBinding,
    BufferBindingType, BufferDescriptor, BufferUsages, CommandEncoderDescriptor,
    ComputePassDescriptor, ComputePipeline, ComputePipelineDescriptor, Device, DeviceDescriptor,
    ErrorFilter, Features, Instance, InstanceDescriptor, MapMode, PipelineCompilationOptions,
    PipelineLayout, PipelineLayoutDescriptor, PollType, Queue, ShaderModuleDescriptor,
    ShaderSource, ShaderStages,
};

use crate::protocol::{PAYLOAD_BYTES_MAX, Run};
use crate::{AdapterReport, Capabilities, DeviceType, GpuError, canary};

/// Compiled kernels kept; past it all are dropped and compiled again as they come.
const PIPELINES_MAX: usize = 64;
/// Bytes of the smallest buffer: a binding may not be empty.
const BUFFER_BYTES_MIN: u64 = 4096;

/// An open device.
pub(crate) struct Gpu {
    device: Device,
    queue: Queue,
    report: AdapterReport,
    bindings: BindGroupLayout,
    layout: PipelineLayout,
    pipelines: BTreeMap<String, ComputePipeline>,
    params: Slot,
    data: Slot,
    results: Slot,
    readback: Slot,
    /// Memory of the last results, for the next ones.
    spare: Vec<u8>,
}

/// A buffer that grows and is kept between calls.
struct Slot {
    buffer: Option<Buffer>,
    usage: BufferUsages,
}

impl Gpu {
    /// Opens the best adapter and finds out what it can do.
    pub(crate) fn open() -> Result<Self, GpuError> {
        let mut descriptor = InstanceDescriptor::new_without_display_handle();
        descriptor.backends = Backends::VULKAN;
        let instance = Instance::new(descriptor);
        let adapters = pollster::block_on(instance.enumerate_adapters(Backends::VULKAN));
        let adapter =
            adapters
                .into_iter()
                .max_by_key(|adapter| device_type(adapter).to_number())
                .ok_or_else(|| GpuError::NoAdapter("no Vulkan driver found a device".into()))?;
        let info = adapter.get_info();
        let limits = adapter.limits();
        let required_features =
            adapter.features() & (Features::SHADER_INT64 | Features::SHADER_F64);
        let opened = adapter.request_device(&DeviceDescriptor {
            label: None,
            required_features,
            required_limits: limits.clone(),
            ..DeviceDescriptor::default()
        });
        let (device, queue) = pollster::block_on(opened).map_err(|source| {
            GpuError::NoAdapter(format!("{} cannot be opened: {source}", info.name))
        })?;
        // The default handlers panic, and a lost device shows in the next launch anyway.
        device.on_uncaptured_error(Arc::new(|error: wgpu::Error| {
            tracing::error!(%error, "GPU error outside a launch");
        }));
        device.set_device_lost_callback(|reason, message| {
            tracing::error!(?reason, message, "GPU lost");
        });
        let report = AdapterReport {
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            name: info.name,
            device_type: device_type(&adapter),
            capabilities: Capabilities::default(),
            storage_binding_bytes_max: limits.max_storage_buffer_binding_size,
            buffer_bytes_max: limits.max_buffer_size,
        };
        let input = BufferUsages::STORAGE | BufferUsages::COPY_DST;
        let (bindings, layout) = layouts(&device);
        let mut gpu = Self {
            device,
            bindings,
            layout,
            queue,
            report,
            pipelines: BTreeMap::new(),
            params: Slot::new(input),
            data: Slot::new(input),
            results: Slot::new(BufferUsages::STORAGE | BufferUsages::COPY_SRC),
            readback: Slot::new(BufferUsages::MAP_READ | BufferUsages::COPY_DST),
            spare: Vec::new(),
        };
        gpu.report.capabilities = canary::try_out(&mut gpu, required_features)?;
        Ok(gpu)
    }

    /// The adapter and its capabilities.
    pub(crate) fn report(&self) -> &AdapterReport {
        &self.report
    }

    /// Gives memory back that [`Gpu::run`] returned.
    pub(crate) fn reuse(&mut self, results: Vec<u8>) {
        self.spare = results;
    }

    /// Runs one launch and waits for its results.
    pub(crate) fn run(&mut self, run: &Run, data: &[u8]) -> Result<Vec<u8>, GpuError> {
        let result_bytes = run.result_bytes;
        let fits = usize::try_from(result_bytes).is_ok_and(|bytes| bytes <= PAYLOAD_BYTES_MAX);
        if !fits || !result_bytes.is_multiple_of(4) || !data.len().is_multiple_of(4) {
            let message = format!("{} bytes in, {result_bytes} bytes out", data.len());
            return Err(GpuError::Protocol(message));
        }
        let params: Vec<u8> = run.params.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.in_error_scope(|gpu| gpu.launch(run, &params, data))?;
        self.in_error_scope(|gpu| gpu.read_back(result_bytes))
    }

    fn launch(&mut self, run: &Run, params: &[u8], data: &[u8]) -> Result<(), GpuError> {
        let pipeline = self.pipeline(&run.source);
        let result_bytes = run.result_bytes.max(4);
        let params_buffer = self.params.at_least(&self.device, as_u64(params.len()));
        let data_buffer = self.data.at_least(&self.device, as_u64(data.len()));
        let results_buffer = self.results.at_least(&self.device, result_bytes);
        self.queue.write_buffer(&params_buffer, 0, params);
        self.queue.write_buffer(&data_buffer, 0, data);
        let bindings = [
            (&params_buffer, as_u64(params.len())),
            (&data_buffer, as_u64(data.len())),
            (&results_buffer, result_bytes),
        ];
        let entries: Vec<_> = (0u32..)
            .zip(bindings)
            .map(|(binding, (buffer, bytes))| BindGroupEntry {
                binding,
                resource: wgpu::BindingResource::Buffer(BufferBinding {
                    buffer,
                    offset: 0,
                    size: std::num::NonZeroU64::new(bytes.max(4)),
                }),
            })
            .collect();
        let group = self.device.create_bind_group(&BindGroupDescriptor {
            label: None,
            layout: &self.bindings,
            entries: &entries,
        });
        let mut encoder =
            self.device.create_command_encoder(&CommandEncoderDescriptor { label: None });
        {
            let mut pass = encoder.begin_compute_pass(&ComputePassDescriptor::default());
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &group, &[]);
            pass.dispatch_workgroups(run.groups_x, run.groups_y, 1);
        }
        let readback = self.readback.at_least(&self.device, result_bytes);
        encoder.copy_buffer_to_buffer(&results_buffer, 0, &readback, 0, result_bytes);
        self.queue.submit([encoder.finish()]);
        Ok(())
    }

    fn read_back(&mut self, result_bytes: u64) -> Result<Vec<u8>, GpuError> {
        let mut results = std::mem::take(&mut self.spare);
        results.clear();
        if result_bytes == 0 {
            return Ok(results);
        }
        let readback = self.readback.at_least(&self.device, result_bytes);
        let (sender, mapped) = std::sync::mpsc::sync_channel(1);
        readback.map_async(MapMode::Read, ..result_bytes, move |outcome| {
            // The receiver waits below; it is gone only where the poll failed, which is reported there.
            let sent = sender.send(outcome);
            tracing::trace!(?sent, "buffer mapped");
        });
        // Without a timeout: the parent's watchdog ends a device that hangs.
        self.device.poll(PollType::wait_indefinitely()).map_err(lost)?;
        mapped.recv().map_err(lost)?.map_err(lost)?;
        let view = readback.get_mapped_range(..result_bytes).map_err(lost)?;
        results.extend_from_slice(&view);
        drop(view);
        readback.unmap();
        Ok(results)
    }

    /// The compiled kernel of a source; wgpu validates it and adds its checks.
    fn pipeline(&mut self, source: &str) -> ComputePipeline {
        if let Some(pipeline) = self.pipelines.get(source) {
            return pipeline.clone();
        }
        let module = self.device.create_shader_module(ShaderModuleDescriptor {
            label: None,
            source: ShaderSource::Wgsl(source.into()),
        });
        let pipeline = self.device.create_compute_pipeline(&ComputePipelineDescriptor {
            label: None,
            layout: Some(&self.layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: PipelineCompilationOptions::default(),
            cache: None,
        });
        if self.pipelines.len() >= PIPELINES_MAX {
            self.pipelines.clear();
        }
        self.pipelines.insert(source.to_owned(), pipeline.clone());
        pipeline
    }

    /// Turns wgpu's errors inside `work` into ours; after one, buffers and kernels are made anew.
    fn in_error_scope<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, GpuError>,
    ) -> Result<T, GpuError> {
        let memory = self.device.push_error_scope(ErrorFilter::OutOfMemory);
        let internal = self.device.push_error_scope(ErrorFilter::Internal);
        let validation = self.device.push_error_scope(ErrorFilter::Validation);
        let result = work(self);
        let errors = [validation.pop(), internal.pop()].map(pollster::block_on);
        let exhausted = pollster::block_on(memory.pop());
        if exhausted.is_some() || errors.iter().any(Option::is_some) {
            self.pipelines.clear();
            for slot in [&mut self.params, &mut self.data, &mut self.results, &mut self.readback] {
                slot.buffer = None;
            }
        }
        if let Some(error) = exhausted {
            return Err(GpuError::OutOfMemory(error.to_string()));
        }
        match errors.into_iter().flatten().next() {
            Some(error) => Err(GpuError::Device(error.to_string())),
            None => result,
        }
    }
}

/// The three bindings of every kernel, used or not: `bindings.wgsl`.
fn layouts(device: &Device) -> (BindGroupLayout, PipelineLayout) {
    let entry = |(binding, read_only): (u32, bool)| BindGroupLayoutEntry {
        binding,
        visibility: ShaderStages::COMPUTE,
        ty: BindingType::Buffer {
            ty: BufferBindingType::Storage { read_only },
            has_dynamic_offset: false,
            min_binding_size: None,
        },
        count: None,
    };
    let bindings = device.create_bind_group_layout(&BindGroupLayoutDescriptor {
        label: None,
        entries: &[(0, true), (1, true), (2, false)].map(entry),
    });
    let layout = device.create_pipeline_layout(&PipelineLayoutDescriptor {
        label: None,
        bind_group_layouts: &[Some(&bindings)],
        ..PipelineLayoutDescriptor::default()
    });
    (bindings, layout)
}

impl Slot {
    fn new(usage: BufferUsages) -> Self {
        Self { buffer: None, usage }
    }

    /// A buffer of at least so many bytes: the last one, or a new one of the next power of two.
    fn at_least(&mut self, device: &Device, bytes: u64) -> Buffer {
        match &self.buffer {
            Some(buffer) if buffer.size() >= bytes => buffer.clone(),
            _ => {
                let size = bytes.max(BUFFER_BYTES_MIN).next_power_of_two();
                let buffer = device.create_buffer(&BufferDescriptor {
                    label: None,
                    size,
                    usage: self.usage,
                    mapped_at_creation: false,
                });
                self.buffer.insert(buffer).clone()
            }
        }
    }
}

fn device_type(adapter: &Adapter) -> DeviceType {
    match adapter.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => DeviceType::Discrete,
        wgpu::DeviceType::IntegratedGpu => DeviceType::Integrated,
        wgpu::DeviceType::VirtualGpu => DeviceType::Virtual,
        wgpu::DeviceType::Cpu => DeviceType::Software,
        wgpu::DeviceType::Other => DeviceType::Unknown,
    }
}

fn lost(error: impl std::error::Error) -> GpuError {
    GpuError::Device(format!("the device is lost: {error}"))
}

fn as_u64(length: usize) -> u64 {
    length as u64
}
